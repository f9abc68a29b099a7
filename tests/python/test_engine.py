# SPDX-License-Identifier: MIT
"""Engine and Session from Python: the same numbers as the program's, lifetimes, errors, threads."""
import gc
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import rotor

TEXT = "Once upon a time"
GREEDY = {"temperature": 0, "max_tokens": 40}


def test_the_text_is_the_programs(engine, story, rotor_program):
    want = rotor_program("run", story, "-p", TEXT, "-n", 40, "--temp", 0).stdout
    result = engine.generate(TEXT, **GREEDY)
    assert result.text == want.rstrip("\n") and len(result.ids) == 40 and result.finish == "length"
    assert len(result.logprobs) == 40 and all(p <= 0 for p in result.logprobs)
    assert engine.detokenize(result.ids) == result.text


def test_logits_are_the_programs(engine, story, rotor_program, tmp_path):
    ids = engine.tokenize(TEXT, bos=True)
    rotor_program("logits", story, "--tokens", ",".join(map(str, ids)), "--all", "-o", tmp_path / "l.npy", "--head", "q8")
    want = np.load(tmp_path / "l.npy")
    with engine.session() as session:
        every = session.eval_all(ids)
        assert every.tobytes() == want.tobytes()
        last = session.eval(ids)
        assert last.dtype == np.float32 and last.shape == (engine.info.n_vocab,) and not last.flags.writeable
        assert last.tobytes() == want[-1].tobytes() and len(session) == len(ids)
        session.rewind(2)
        assert len(session) == 2 and session.eval(ids[:3]).tobytes() == want[2].tobytes()


@pytest.mark.parametrize("head", ["q8", "exact"])
def test_the_best_logits(story, head):
    with rotor.Engine(story, head=head) as e, e.session() as session:
        ids = e.tokenize(TEXT, bos=True)
        logits = session.eval(ids).copy()
        session.rewind(0)
        top = session.eval_top(ids, 20)
    order = np.lexsort((np.arange(len(logits)), -logits))[:20]
    assert top == [(int(i), float(logits[i])) for i in order]


def test_logits_of_a_ternary_model(ternary_path, rotor_program, tmp_path):
    ids = [5, 60, 7, 200, 31]
    rotor_program("logits", ternary_path, "--tokens", ",".join(map(str, ids)), "-o", tmp_path / "l.npy", "--head", "file",
              "--kv", "f32")
    with rotor.Engine(ternary_path, head="file", kv="f32") as engine, engine.session() as session:
        assert session.eval(np.array(ids)).tobytes() == np.load(tmp_path / "l.npy")[-1].tobytes()


def test_an_adapter_beside_a_model(ternary_path, rotor_program, tmp_path):
    import gguf_mini as g
    rng = np.random.default_rng(2)
    halves = {"a": rng.normal(0, 0.1, (3, 256)), "b": rng.normal(0, 0.1, (256, 3))}
    g.write_gguf(tmp_path / "a.gguf", {"general.architecture": "bitnet-b1.58", "general.type": "adapter", "adapter.type": "lora",
                                       "adapter.lora.alpha": 6.0},
                 {"blk.1.attn_q.weight.lora_" + half: g.Raw(g.F32, x.shape, g.encode(g.F32, x)) for half, x in halves.items()})
    found = []
    for scale in 1.0, -0.5:
        rotor_program("logits", ternary_path, "--tokens", "5,60,7", "-o", tmp_path / "l.npy", "--head", "file", "--kv", "f32",
                      "--lora", tmp_path / "a.gguf", "--lora-scale", scale)
        with rotor.Engine(ternary_path, head="file", kv="f32", lora=tmp_path / "a.gguf", lora_scale=scale) as engine:
            found.append(engine.session().eval([5, 60, 7]).tobytes())
        assert found[-1] == np.load(tmp_path / "l.npy")[-1].tobytes()
    with rotor.Engine(ternary_path, head="file", kv="f32") as engine:
        found.append(engine.session().eval([5, 60, 7]).tobytes())
    assert len(set(found)) == 3
    with pytest.raises(rotor.Error, match="not an adapter"):
        rotor.Engine(ternary_path, lora=ternary_path)


def test_sessions_step_together(engine):
    a, b, alone = engine.session(), engine.session(), engine.session()
    a.eval([1, 5, 9])
    b.eval([1, 7])
    rows = [row.copy() for row in engine.eval_together([a, b], [20, 30])]
    assert rows[0].tobytes() == alone.eval([1, 5, 9, 20]).tobytes()
    assert rows[1].tobytes() == alone.eval([1, 7, 30]).tobytes()
    with pytest.raises(rotor.Error):
        engine.eval_together([a, b], [1])


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.9, "seed": 3}, {"seed": 5, "stop": "."},
                                     {"seed": 6, "lookup": 2}])
def test_a_stream_is_the_whole_text(engine, options):
    whole = engine.generate(TEXT, max_tokens=60, **options)
    pieces = list(engine.stream(TEXT, max_tokens=60, **options))
    assert "".join(pieces) == whole.text and len(pieces) > 3
    assert whole.finish == ("stop" if "stop" in options else "length")


def test_leaving_a_stream_stops_the_generation(engine):
    session, before = engine.session(), threading.active_count()
    for n, _ in enumerate(session.stream(TEXT, **GREEDY)):
        if n == 4:
            break
    gc.collect()
    assert threading.active_count() == before
    assert len(session) < len(engine.tokenize(TEXT, bos=True)) + 8
    assert session.generate(TEXT, **GREEDY).text == engine.generate(TEXT, **GREEDY).text


def test_the_body_of_a_stream_may_tokenize_but_not_evaluate(engine):
    session = engine.session()
    stream = session.stream(TEXT, **GREEDY)
    piece = next(stream)
    assert engine.tokenize(piece) and len(session) > 0
    for use in (lambda: session.eval([1]), lambda: engine.generate("x"), engine.close, lambda: next(engine.stream("x"))):
        with pytest.raises(rotor.Error) as e:
            use()
        assert e.value.name == "E_STATE"
    stream.close()
    assert len(session.eval([1])) == engine.info.n_vocab


def test_a_result_comes_with_the_stream(engine):
    stream = engine.session().stream(TEXT, **GREEDY)
    while True:
        try:
            next(stream)
        except StopIteration as end:
            assert end.value.text == engine.generate(TEXT, **GREEDY).text
            return


def test_callbacks(engine):
    seen, done = [], []
    result = engine.generate(TEXT, on_text=lambda piece: seen.append(piece) or len(seen) < 5,
                             on_prompt=lambda n, total: done.append((n, total)), n_top=3, **GREEDY)
    assert result.finish == "cancel" and "".join(seen) == result.text and done[-1][0] == done[-1][1]
    assert all(len(t) == 3 and t[0][1] >= t[1][1] for t in result.top) and len(result.top) == len(result.ids)
    assert engine.generate(TEXT, on_prompt=lambda *_: False, **GREEDY).text == ""

    def only_seven(logits):
        logits[:] = -50
        logits[7] = 0
    assert engine.generate(TEXT, on_logits=only_seven, **GREEDY).ids == [7] * 40
    assert engine.generate(TEXT, bias={7: 1e6}, **GREEDY).ids == [7] * 40


@pytest.mark.parametrize("where", ["on_text", "on_prompt", "on_logits"])
def test_an_exception_in_a_callback_comes_out(engine, where):
    def fail(*_):
        raise ZeroDivisionError("here")
    with pytest.raises(ZeroDivisionError):
        engine.generate(TEXT, **{where: fail}, **GREEDY)
    assert engine.generate(TEXT, **GREEDY).finish == "length"


def test_calling_the_engine_from_a_callback_is_an_error_not_a_deadlock(engine):
    with pytest.raises(rotor.Error, match="in use"):
        engine.generate(TEXT, on_text=lambda _: engine.generate("x"), **GREEDY)


def test_a_draft_changes_no_token(engine, story):
    with rotor.Engine(story, threads=1) as small, small.session() as draft, engine.session() as session:
        result = session.generate(TEXT, draft=draft, **GREEDY)
        assert result.ids == engine.generate(TEXT, **GREEDY).ids and result.n_accepted > 0


def test_beams(engine):
    with engine.session() as session:
        assert session.generate_beam(TEXT, 1, 20).ids == engine.generate(TEXT, temperature=0, max_tokens=20).ids
        assert session.generate_beam(TEXT, 3, 40, json_schema={"enum": ["a cat"]}).text == '"a cat"'


def test_text_and_ids(engine):
    text = "Lily's ball \N{GRINNING FACE} naïve\0zero"
    ids = engine.tokenize(text)
    assert engine.detokenize(ids) == text and engine.tokenize(text, bos=True) == [1] + ids
    assert engine.tokenize("") == [] and engine.detokenize([]) == ""
    assert engine.is_eog(2) and not engine.is_eog(5)
    with pytest.raises(TypeError):
        engine.detokenize([1.5])
    with pytest.raises(rotor.Error):
        engine.detokenize([-1])
    with pytest.raises(rotor.Error):
        engine.detokenize([10**6])


def test_chat(story):
    with rotor.Engine(story, chat_template="chatml") as engine:
        chat = engine.chat(system="Be brief.", temperature=0, max_tokens=12)
        first = chat.say("Hello")
        pieces = list(chat.stream("And then?"))
        assert [m["role"] for m in chat.messages] == ["system", "user", "assistant", "user", "assistant"]
        assert chat.messages[2]["content"] == first.text and chat.messages[4]["content"] == "".join(pieces)
        ids = engine.chat_tokenize(chat.messages[:2])
        assert "Be brief." in engine.detokenize(ids) and engine.generate(
            ids, temperature=0, max_tokens=12, stop=engine.chat_stops).text == first.text


# ---- Errors ----------------------------------------------------------------------------------------------------------


def test_errors_carry_code_and_message(story, tmp_path):
    with pytest.raises(rotor.Error, match="nothing.gguf") as e:
        rotor.Engine(str(tmp_path / "nothing.gguf"))
    assert e.value.code == -2 and e.value.name == "E_IO" and e.value.message == str(e.value)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(rotor.Error) as e:
        rotor.Engine(tmp_path / "bad.gguf")
    assert e.value.name in ("E_FORMAT", "E_UNSUPPORTED")
    for wrong in ({"kv": "f64"}, {"head": "q9"}, {"threads": -1}, {"cpu": "z80"}, {"max_sessions": 0}):
        with pytest.raises(rotor.Error) as e:
            rotor.Engine(story, **wrong)
        assert e.value.name == "E_ARG" or "cpu" in wrong, e.value
    with pytest.raises(rotor.Error, match="zero byte"):
        rotor.Engine("a\0b")
    with pytest.raises(TypeError):
        rotor.Engine(story, nonsense=1)


def test_errors_of_a_session(engine):
    session = engine.session(max_tok=16)
    for ids, name in (([], "E_ARG"), ([10**6], "E_ARG"), ([1] * 17, "E_FULL")):
        with pytest.raises(rotor.Error) as e:
            session.eval(ids)
        assert e.value.name == name
    with pytest.raises(TypeError, match="temprature"):
        session.generate("x", temprature=1)
    assert session.max == 16 and len(session.eval([1, 2])) == 512


def test_a_model_in_memory(story):
    with open(story, "rb") as f:
        engine = rotor.Engine(f.read())
    gc.collect()
    with rotor.Engine(story) as other:
        assert engine.generate(TEXT, **GREEDY).text == other.generate(TEXT, **GREEDY).text


def test_the_log(story):
    lines = []
    rotor.Engine(story, log=lambda level, line: lines.append((level, line))).close()
    assert any("stories260K" in line for _, line in lines)


# ---- Lifetimes -------------------------------------------------------------------------------------------------------


def test_close_twice_and_use_after_close(story):
    engine = rotor.Engine(story)
    session, chat = engine.session(), engine.chat()
    session.close()
    session.close()
    with pytest.raises(rotor.Error, match="session is closed"):
        session.eval([1])
    with pytest.raises(rotor.Error, match="session is closed"):
        len(session)
    other = engine.session()
    engine.close()
    engine.close()
    assert engine.closed and other.closed and chat.session.closed and "closed" in repr(engine)
    for use in (lambda: engine.tokenize("x"), lambda: engine.session(), lambda: engine.generate("x"), lambda: engine.info,
                lambda: other.eval([1]), lambda: other.rewind(), lambda: other.stream("x"), lambda: chat.say("x"),
                lambda: engine.__enter__(), lambda: engine.is_eog(1)):
        with pytest.raises(rotor.Error) as e:
            use()
        assert e.value.name == "E_STATE"


def test_a_session_keeps_its_engine(story):
    session = rotor.Engine(story).session()
    gc.collect()
    assert len(session.generate(TEXT, **GREEDY).ids) == 40


def test_logits_outlive_everything(story):
    engine = rotor.Engine(story)
    logits = engine.session().eval([1, 2, 3])
    copy = logits.copy()
    part = logits[100:200]
    engine.close()
    del engine, logits
    gc.collect()
    rotor.Engine(story).generate(TEXT, **GREEDY)
    assert part.tobytes() == copy[100:200].tobytes()


def test_nothing_is_left_behind(story):
    """Engines in cycles, streams left in the middle, sessions dropped inside calls: memory stays level."""
    def once():
        engine = rotor.Engine(story, threads=1)
        engine.me = engine
        next(engine.stream(TEXT, **GREEDY))
        temporary = [engine.session() for _ in range(3)]
        engine.generate(TEXT, on_text=lambda _: temporary.clear(), **GREEDY)
        engine.session().eval([1])
        del engine
        gc.collect()

    def resident_kb():
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024

    for _ in range(10):
        once()
    before, threads = resident_kb(), threading.active_count()
    for _ in range(40):
        once()
    assert resident_kb() - before < 8000        # an engine takes more than 1 MB: 40 would be 40 MB
    assert threading.active_count() == threads


def test_leaving_python_in_the_middle(story):
    code = ("import rotor\ne = rotor.Engine(%r)\ns = e.session()\nv = s.eval([1])\n"
            "g = s.stream('Once', max_tokens=50)\nprint(next(g))" % story)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                            env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(rotor.__file__))})
    assert result.returncode == 0 and not result.stderr, result.stderr


# ---- Threads ---------------------------------------------------------------------------------------------------------


def test_threads_share_an_engine(engine):
    want = engine.generate(TEXT, **GREEDY).text
    got, failed = [], []

    def work(n):
        try:
            session = engine.session()
            for _ in range(5):
                if n % 2:
                    got.append(session.generate(TEXT, **GREEDY).text)
                else:
                    got.append("".join(session.stream(TEXT, **GREEDY)))
                assert engine.detokenize(engine.tokenize(TEXT)) == TEXT
        except BaseException as error:
            failed.append(error)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not failed and got == [want] * 20


def test_closing_waits_for_the_call_of_another_thread(story):
    engine, started, results = rotor.Engine(story), threading.Event(), []
    session = engine.session()

    def work():
        results.append(session.generate(TEXT, on_text=lambda _: started.set(), **GREEDY))
    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(300)
    engine.close()
    thread.join(300)
    assert results[0].finish == "length" and session.closed


def test_engines_may_share_threads(story):
    with rotor.Engine(story, threads=2) as first, rotor.Engine(story, threads_of=first) as second:
        assert second.info.threads == 2
        assert first.generate(TEXT, **GREEDY).ids == second.generate(TEXT, **GREEDY).ids
        first.close()
        assert second.generate(TEXT, **GREEDY).finish == "length"      # the threads stay as long as they are needed


# ---- Finding the library ---------------------------------------------------------------------------------------------


def python(code, **env):
    clean = {k: v for k, v in os.environ.items() if k != "ROTOR_LIBRARY"}
    package = os.path.dirname(os.path.dirname(rotor.__file__))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                          env={**clean, "PYTHONPATH": package, **env})


def test_the_library_is_found_or_the_error_says_how(tmp_path):
    library = os.path.join(os.environ["ROTOR_LIBRARY"], "librotor.so")
    for where in (library, os.path.dirname(library)):
        assert python("import rotor; print(rotor.__version__)", ROTOR_LIBRARY=where).stdout.startswith("0.")
    missing = python("import rotor", ROTOR_LIBRARY=str(tmp_path))
    assert missing.returncode == 1 and "ROTOR_LIBRARY" in missing.stderr and str(tmp_path) in missing.stderr
    (tmp_path / "librotor.so").write_text("no library")
    assert "librotor is not here" in python("import rotor", ROTOR_LIBRARY=str(tmp_path)).stderr
    other = python("import rotor", ROTOR_LIBRARY="libm.so.6")
    assert "another version of librotor" in other.stderr


def test_torch_is_imported_only_when_asked():
    assert python("import rotor, sys; print('torch' in sys.modules)").stdout == "False\n"


def test_it_installs_with_pip(source_root, tmp_path):
    probe = "import setuptools, pip; int(setuptools.__version__.split('.')[0]) > 70 or __import__('wheel')"
    if subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode:
        pytest.skip("no pip, setuptools and wheel")
    subprocess.run(["cp", "-r", str(source_root / "python"), str(tmp_path / "python")], check=True)
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index",
                           "--target", str(tmp_path / "site"), str(tmp_path / "python")], capture_output=True, text=True,
                          timeout=600, env=env)
    assert done.returncode == 0, done.stderr
    code = "import rotor; print(rotor._library.lib._name); print(rotor.features())"
    out = python(code, PYTHONPATH=str(tmp_path / "site")).stdout
    assert str(tmp_path / "site" / "rotor" / "librotor.so") in out


def test_vectors_are_the_programs(story, rotor_program, tmp_path):
    texts = [TEXT, "there was a little girl", "x"]
    rotor_program("embed", story, *texts, "-o", tmp_path / "v.npy")
    want = np.load(tmp_path / "v.npy")
    with rotor.Engine(story, threads=2, embed=True) as e:
        assert e.info.n_vector == 64 and e.info.pool == 3
        got = e.embed(texts)
        assert got.dtype == np.float32 and got.tobytes() == want.tobytes()
        assert e.embed(texts[1]).tobytes() == want[1].tobytes() and e.embed([]).shape == (0, 64)
        ids = e.tokenize(TEXT, bos=True) + [2]
        assert e.embed([ids]).tobytes() == want[:1].tobytes() and e.embed([texts[2], ids])[1].tobytes() == want[0].tobytes()
        assert np.linalg.norm(e.embed(TEXT, normalize=False)) > 1.5
        for bad, name in (([""], "E_ARG"), ([[512]], "E_ARG"), ([[1] * 5000], "E_FULL")):
            with pytest.raises(rotor.Error) as error:
                e.embed(bad)
            assert error.value.name == name
        assert e.embed([[1] * 5000], truncate=True).shape == (1, 64)
        with pytest.raises(rotor.Error, match="opened to embed"):
            e.session()
    with rotor.Engine(story, threads=1) as e, pytest.raises(rotor.Error, match="opened to write text"):
        e.embed(TEXT)
    with pytest.raises(rotor.Error, match="pool is 'max'"):
        rotor.Engine(story, embed=True, pool="max")


def test_a_full_context_shifts(story):
    with rotor.Engine(story, ctx=32) as e:
        told = []
        stop = e.generate(TEXT, max_tokens=60, temperature=0, ignore_eog=True)
        shift = e.generate(TEXT, max_tokens=60, temperature=0, ignore_eog=True, on_full="shift", keep=4,
                           on_shift=lambda dropped, left: told.append((dropped, left)))
        assert stop.finish == "full" and shift.finish == "length" and len(shift.ids) == 60
        assert len(told) == shift.n_shifts > 1 and sum(d for d, _ in told) == shift.n_shifted
        assert shift.ids[:len(stop.ids)] == stop.ids


def test_a_session_is_saved_and_loaded(story, tmp_path):
    path = tmp_path / "a.session"
    with rotor.Engine(story) as e, e.session() as a, e.session() as b:
        ids = e.tokenize(TEXT, bos=True)
        a.eval(ids)
        a.save(path, "höre")
        assert b.load(path) == "höre" and b.tokens == ids and len(b) == len(ids)
        want = a.eval(ids + [5]).copy()
        assert b.eval(ids + [5]).tobytes() == want.tobytes()
        path.write_bytes(b"nothing")
        with pytest.raises(rotor.Error):
            b.load(path)
        assert len(b) == len(ids) + 1


def test_checks_while_running(engine, story):
    with rotor.Engine(story, self_check=1) as checked:
        assert checked.generate(TEXT, **GREEDY).text == engine.generate(TEXT, **GREEDY).text
        facts = checked.self_check
        assert facts.faults == 0 and facts.fault == "" and facts.steps == facts.logits == 40
        assert facts.products > 0 and facts.weight_bytes >= facts.weight_all_bytes > 0
        assert 0 < facts.spent_ns < facts.total_ns
    with pytest.raises(rotor.Error):
        engine.self_check               # opened without
    with pytest.raises(rotor.Error, match="self_check is 2, expected 0 to 1"):
        rotor.Engine(story, self_check=2)


def test_a_timeline(story, tmp_path):
    path = tmp_path / "t.json"
    with rotor.Engine(story, trace=str(path)) as traced:
        n = len(traced.generate(TEXT, **GREEDY).ids)
        assert not path.exists()
    events = json.loads(path.read_text())["traceEvents"]
    assert sum(e["name"] == "sample" for e in events) == n
    with pytest.raises(rotor.Error, match="no/t.json"):
        rotor.Engine(story, trace=str(tmp_path / "no" / "t.json"))
