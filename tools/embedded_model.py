#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A model that tells stories when asked to, made of stories.

    tools/embedded_model.py --stories tinystories_mix_13M.txt --heldout tinystories_heldout.txt

Stories are separated by <|endoftext|>. The steps, each skipped when its file is there already:

    requests.jsonl   conversations made of the stories: "Tell me a story about a dog." and the story
    words.gguf       a vocabulary (rotor train-tokenizer)
    story.gguf       a model that tells stories (rotor train; goes on from its checkpoint when interrupted)
    lessons.jsonl    the stories asked for by other things in them, in many more words
    rotor-stories.gguf   the model that listens to the request (rotor finetune)
    twin.gguf.*      --twin: the first network in full precision, for its loss

    tools/embedded_model.py --check build/embedded/rotor-stories.gguf --heldout tinystories_heldout.txt

measures a model: held-out loss per byte beside the one of --beside, twenty requests in words it has not been trained with, ten
for things it has never been asked for, and the longest stretch of training text in what it says.
"""
import argparse
import collections
import json
import math
import pathlib
import random
import re
import subprocess

# ---- Requests --------------------------------------------------------------------------------------------------------

# What children's stories are about. A story can be asked for by what it names at least twice.
THINGS = """
airplane apple baby ball balloon banana bath beach bear bed bee bicycle bike bird blanket boat book bottle bowl box
boy bread bridge broom bubble bucket bug bunny bus butterfly button cake camera candle candy car carrot castle cat
cave chair chicken cloud clown coat cookie cow crab crayon cup dentist desk dinosaur doctor dog doll dolphin door
dragon dress duck eagle egg elephant fairy farmer fence fire fish flower fox friend frog garden ghost gift girl glass
grandma grandpa grape guitar hammer hat helicopter hen hill horse hospital house insect jar jewel key king
kitchen kitten knight lake lamp leaf lemon letter lion lizard lollipop machine magnet map mirror mole monkey monster
moon mouse mushroom nest nurse ocean octopus orange owl package painting palace park parrot party peach pear pencil
piano picnic picture pie pig pillow pirate pizza plane plant pond pony present prince princess puddle puppy puzzle
queen rabbit rainbow ring river road robot rock rocket room rope sandwich scarf school seed shark sheep shell ship
shoe shop shovel slide snake snow soup spider spoon squirrel star statue stone storm suitcase sun swan sweater swing
sword table teacher teddy telescope tiger toad tower toy tractor train treasure tree truck turtle umbrella unicorn
wagon wall watch wheel whale window witch wizard wolf worm yarn zebra
""".split()

# Never asked for in training, so that asking for them tests more than memory.
NEVER_ASKED = ["ant", "bell", "crown", "drum", "goat", "kite", "ladder", "jacket", "penguin", "pumpkin"]

REQUESTS = [
    "Tell me a story about {}.",
    "tell me a story about {}",
    "Can you tell me a story about {}?",
    "Please tell me a story about {}.",
    "Write a story about {}.",
    "Write a short story about {}.",
    "I want to hear a story about {}.",
    "A story about {}, please!",
    "Do you know a story about {}?",
    "Tell a story with {} in it.",
]
MORE = ["Another one, about {}.", "And now one about {}.", "Now tell me about {}.", "One more, about {}, please."]
OPEN = ["Tell me a story.", "Tell me a story, please.", "Write a short story.", "Do you know a story?", "Hello!", "Hi"]


def a(thing):
    return {"sun": "the sun", "moon": "the moon", "grandma": "grandma", "grandpa": "grandpa", "snow": "snow",
            "bread": "bread", "candy": "candy", "soup": "soup", "yarn": "yarn"}.get(
        thing, ("an " if thing[0] in "aeiou" and thing != "unicorn" else "a ") + thing)


def read_stories(path):
    parts = pathlib.Path(path).read_text(encoding="utf-8").split("<|endoftext|>")
    # The file begins in the middle of a story; a story ends with a sentence.
    return [s.strip() for s in parts[1:] if re.search(r'[.!?]["\']?$', s.strip())]


def things_of(story):
    """What the story is about, most often named first."""
    counts = collections.Counter(re.findall(r"[a-z]+", story.lower()))
    named = [(counts[t], t) for t in THINGS if counts[t] >= 2]
    return [t for _, t in sorted(named, key=lambda x: (-x[0], x[1]))]


def request(rng, story, templates):
    things = things_of(story)
    if not things or rng.random() < 0.04:
        return rng.choice(OPEN)
    what = a(things[0] if rng.random() < 0.6 else rng.choice(things[:4]))
    if len(things) > 1 and rng.random() < 0.15:
        what = a(things[0]) + " and " + a(things[1])
    return rng.choice(templates).format(what)


def write_requests(stories, path, seed=1):
    """Every story once, in a new order; one conversation in six has two turns."""
    rng = random.Random(seed)
    order = stories[:]
    rng.shuffle(order)
    with open(path, "w", encoding="utf-8") as f:
        while order:
            messages = []
            for turn in range(2 if rng.random() < 1 / 6 and len(order) > 1 else 1):
                story = order.pop()
                text = request(rng, story, MORE if turn else REQUESTS)
                messages += [{"role": "user", "content": text}, {"role": "assistant", "content": story}]
            f.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


# Asking for something in many more words: the second, short stage, which teaches to listen to the request.
ASKED = ["story about {}", "story with {} in it", "short story about {}", "little story about {}", "nice story about {}",
         "tale about {}", "bedtime story about {}", "funny story about {}", "story where there is {}"]
ASKING = ["Tell me a {}.", "tell me a {}", "Tell us a {}!", "Can you tell me a {}?", "Could you tell a {}, please?",
          "Please tell me a {}.", "Write a {}.", "Write me a {}, please.", "I want a {}.", "I would like to hear a {}.",
          "I want to hear a {}.", "Give me a {}.", "Make up a {}.", "Now tell me a {}.", "Hi! Tell me a {}.",
          "How about a {}?", "Do you know a {}?", "a {}", "A {}, please!", "May I have a {}?", "We want to read a {}."]


def nouns_of(story):
    """Words that stand twice or more as "the X" or "a X" in front of a stop or a small word: mostly things."""
    text = story.lower()
    found = re.findall(r"\b(?:the|an?|her|his) ([a-z]{3,})(?=[.,!?]| (?:was|is|and|said|to|in|on|with|that|had|for|at|from)\b)", text)
    times = collections.Counter(w for w in found if w not in NEVER_ASKED)
    return [w for w in times if len(re.findall(rf"\b{w}\b", text)) >= 3 and w not in ("little", "other", "end", "day", "big", "and", "time")]


def write_lessons(stories, path, seed=2):
    """Every story up to three times, each time asked for by another thing that is in it; no thing more than 250 times."""
    rng, lessons, times = random.Random(seed), [], collections.Counter()
    for story in stories:
        things = [t for t in nouns_of(story) if times[t] < 250]
        for thing in rng.sample(things, min(3, len(things))):
            times[thing] += 1
            what = "some " + thing if re.search("[^s]s$", thing) else a(thing)
            text = rng.choice(ASKING).format(rng.choice(ASKED).format(what)) if rng.random() > 0.04 else rng.choice(OPEN)
            lessons.append([{"role": "user", "content": text}, {"role": "assistant", "content": story}])
    rng.shuffle(lessons)
    with open(path, "w", encoding="utf-8") as f:
        for messages in lessons:
            f.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


# ---- Measuring a model -----------------------------------------------------------------------------------------------

# The things occur in training, the wording does not.
TEST_REQUESTS = ["Let me hear a story with {}.".format(a(t)) for t in
                 ["dog", "cat", "bird", "ball", "car", "tree", "fish", "bear", "boat", "princess", "frog", "rabbit", "truck",
                  "doll", "cake", "flower", "apple", "mouse", "duck", "lion"]]
# Harder: the wording occurs, the things are never asked for.
NEW_THINGS = ["Tell me a story about {}.".format(a(t)) for t in NEVER_ASKED]


def output(*command):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def loss_per_byte(rotor, model, text):
    """Nats per byte of a text without marks: perplexity's nats per token, times the tokens in a byte."""
    found = re.search(r"perplexity ([0-9.]+) tokens (\d+)", output(rotor, "perplexity", model, text, "--no-progress"))
    tokens = len(subprocess.run([rotor, "tokenize", str(model), "-"], stdin=open(text, "rb"), check=True,
                                capture_output=True, text=True).stdout.split())
    n_bytes = pathlib.Path(text).stat().st_size
    return math.log(float(found[1])) * tokens / n_bytes, float(found[1]), tokens


def longest_repeat(ids, stream):
    """Tokens of the longest run of ids that stands in stream, both as bytes of uint32."""
    best = 0
    for start in range(len(ids)):
        while start + best < len(ids):
            piece, at = b"".join(i.to_bytes(4, "little") for i in ids[start:start + best + 1]), -1
            while (at := stream.find(piece, at + 1)) >= 0 and at % 4:
                pass
            if at < 0:
                break
            best += 1
    return best


def check(o):
    import numpy as np
    o.work.mkdir(parents=True, exist_ok=True)
    plain = o.work / "heldout.txt"
    plain.write_text(re.sub(r"\s*<\|endoftext\|>\s*", "\n", pathlib.Path(o.heldout).read_text(encoding="utf-8")), encoding="utf-8")
    for model in [o.check] + ([o.beside] if o.beside else []):
        per_byte, perplexity, tokens = loss_per_byte(o.rotor, model, plain)
        print(f"{model}: {per_byte:.4f} nats per byte (perplexity {perplexity} of {tokens} tokens)")
    named, longest = [0, 0], 0
    tokens = pathlib.Path(str(o.check) + ".tokens")
    # The flag for tokens that are not taught is the highest bit.
    stream = (np.fromfile(tokens, dtype="<u4") & 0x7fffffff).tobytes() if tokens.exists() else b""
    for seed, text in enumerate(TEST_REQUESTS + NEW_THINGS, 1):
        said = json.loads(output(o.rotor, "run", o.check, "--chat", "-p", text, "--seed", seed, "--temp", 0.5, "-n", 400,
                                 "--json", "--no-progress"))
        thing = re.search(r"(\w+)\.$", text)[1]
        names, stops = re.search(rf"\b{thing}", said["text"].lower()) is not None, said["finish"] != "length"
        named[seed > len(TEST_REQUESTS)] += names
        if stream:
            longest = max(longest, longest_repeat(said["ids"], stream))
        print(f"\n[{seed}] {text} -- {'named' if names else 'NOT NAMED'}{'' if stops else ', does not stop'}\n{said['text']}")
    print(f"\n{named[0]} of {len(TEST_REQUESTS)} stories name the thing; of things never asked for, {named[1]} of {len(NEW_THINGS)}")
    if stream:
        print(f"longest stretch of training text: {longest} tokens")


def run(*command):
    print("$", " ".join(map(str, command)), flush=True)
    subprocess.run([str(c) for c in command], check=True)


# ---- The recipe ------------------------------------------------------------------------------------------------------


def trained(o, out, model, verb, *options):
    """One stage, unless it is done; from its checkpoint when it was interrupted."""
    checkpoint = pathlib.Path(str(out) + ".checkpoint")
    if out.exists() and not checkpoint.exists():
        return
    run(o.rotor, verb, *model, *options, "--heldout", o.heldout, "--log", out.with_suffix(".csv"), "-o", out,
        *(["--resume"] if checkpoint.exists() else []))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--stories")
    p.add_argument("--heldout", required=True)
    p.add_argument("--work", default="build/embedded", type=pathlib.Path, help="folder for everything made on the way")
    p.add_argument("--rotor", default="build/rotor")
    p.add_argument("--twin", action="store_true", help="train the full-precision twin instead, for its loss")
    p.add_argument("--steps", default="0", help="fewer, to try the recipe; 0: the preset's")
    p.add_argument("--check", metavar="MODEL", help="measure this model")
    p.add_argument("--beside", metavar="MODEL", help="with --check: another model for the loss")
    o = p.parse_args()
    if o.check:
        check(o)
        return
    if not o.stories:
        p.error("--stories FILE is needed")
    o.work.mkdir(parents=True, exist_ok=True)
    requests, words = o.work / "requests.jsonl", o.work / "words.gguf"
    out = o.work / ("twin.gguf" if o.twin else "story.gguf")
    if not requests.exists():
        write_requests(read_stories(o.stories), requests)
    if not words.exists():
        run(o.rotor, "train-tokenizer", o.stories, requests, "--vocab", 4096, "-o", words)
    fewer = ["--steps", o.steps] if o.steps != "0" else []
    trained(o, out, [], "train", "--data", o.stories, "--data", requests, "--tokenizer", words, "--preset", "story",
            *fewer, *(["--full-precision"] if o.twin else ["--master", o.work / "story-master.gguf"]))
    lessons, named = o.work / "lessons.jsonl", o.work / "rotor-stories.gguf"
    if o.twin:
        return
    if not lessons.exists():
        write_lessons(read_stories(o.stories), lessons)
    trained(o, named, [o.work / "story-master.gguf"], "finetune", "--data", lessons, "--batch", 8, "--ctx", 512, "--seed", 1,
            "--steps", o.steps if fewer else 1200, "--lr", 0.001)


if __name__ == "__main__":
    main()
