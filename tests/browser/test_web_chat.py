# SPDX-License-Identifier: MIT
"""The page before a scripted server: what people do with it, and what it does when things go wrong."""
import json

import chromium

READY = "document.documentElement.dataset.ready"
IDLE = "!document.querySelector('.send.stops')"
ANSWER = "(document.querySelector('.turn.reply:last-child .answer')?.innerText ?? '')"


def open_page(tab, server):
    tab.go(server.url)
    tab.wait(READY)


def say(tab, text, wait=True):
    tab.click("#prompt")
    tab.type(text)
    tab.press("Enter")
    if wait:
        tab.wait("document.querySelector('.turn') && " + IDLE)


def turns(tab):
    return tab.js("[...document.querySelectorAll('.turn')].map((t) => (t.querySelector('.said') ?? t.querySelector('.answer')).innerText)")


def test_an_answer_with_its_figures(tab, mock):
    open_page(tab, mock)
    assert tab.text("#model") == "mock-story" and "story" in tab.text(".examples")
    say(tab, "Hello **you**")
    assert turns(tab) == ["Hello **you**", "You said: Hello you"]
    assert "123 t/s" in tab.text(".stats") and tab.js("document.title") == "Hello **you** · Rotor"
    assert "of 512" in tab.text("#meter") and "You said" in tab.text("#announcer")
    request = mock.requests[0]
    assert request["messages"] == [{"role": "user", "content": "Hello **you**"}] and request["stream"] is True
    assert request["stream_options"] == {"include_usage": True} and "temperature" not in request
    assert set(url.split("/", 3)[3] for url in tab.urls) == {"", "v1/models", "v1/rag/stores", "v1/chat/completions"}


def test_the_keyboard(tab, mock):
    open_page(tab, mock)
    tab.js("document.activeElement.blur()")
    tab.press("/")
    tab.type("one")
    tab.press("Enter", chromium.SHIFT)
    tab.type("two")
    tab.press("Enter")
    tab.wait("document.querySelectorAll('.turn.reply').length === 1 && " + IDLE)
    assert mock.requests[0]["messages"][-1]["content"] == "one\ntwo"
    tab.press("ArrowUp")
    tab.wait("document.activeElement.closest('.editing')")
    tab.press("Escape")
    tab.wait("document.activeElement.id === 'prompt' && !document.querySelector('.editing')")
    tab.press("k", chromium.CTRL)
    tab.wait("document.activeElement.id === 'search'")
    outlined = tab.js("getComputedStyle(document.activeElement).outlineStyle")
    assert outlined != "none"


def test_stopping_keeps_the_half_and_frees_the_server(tab, mock):
    open_page(tab, mock)
    say(tab, "slow please", wait=False)
    tab.wait(ANSWER + ".length > 20")
    tab.wait("/\\d t\\/s/.test(document.querySelector('.stats').innerText)")
    tab.press("Escape")
    tab.wait(IDLE)
    assert "Stopped here" in tab.text(".note") and turns(tab)[1].startswith("one two")
    tab.click("#send") if tab.js("!document.querySelector('#send').disabled") else None
    say(tab, "and now")
    assert turns(tab)[3] == "You said: and now" and len(mock.requests[1]["messages"]) == 3
    assert mock.someone_left.wait(60) and mock.left == 1  # a closed connection shows at the second write behind it


def test_branches(tab, mock):
    open_page(tab, mock)
    say(tab, "first")
    tab.click("[aria-label='Answer again']")
    tab.wait("document.querySelector('.branches')?.innerText.includes('2 / 2') && " + IDLE)
    say(tab, "below the second")
    tab.click(".turn.user [aria-label='Edit']")
    tab.wait("document.querySelector('.editing textarea')")
    tab.type(" changed")
    tab.press("Enter")
    tab.wait("document.querySelectorAll('.turn').length === 2 && " + IDLE)
    assert turns(tab) == ["first changed", "You said: first changed"] and mock.requests[-1]["messages"] == [{"role": "user", "content": "first changed"}]
    tab.click(".turn.user [aria-label='Earlier version']")
    tab.wait("document.querySelectorAll('.turn').length === 4")
    assert turns(tab)[2] == "below the second"
    tab.click(".turn.reply [aria-label='Earlier version']")
    tab.wait("document.querySelectorAll('.turn').length === 2")
    tab.reload()
    tab.wait(READY + " && document.querySelectorAll('.turn').length === 2")
    assert tab.text(".turn.reply .branches") == "1 / 2"


def test_hostile_answers_are_harmless(tab, mock):
    open_page(tab, mock)
    say(tab, "hostile please")
    assert tab.js("window.harmed") is None
    assert tab.js("document.querySelectorAll('#thread script, #thread img, #thread iframe, #thread svg:not(.icon):not(.mark), #thread [onerror]').length") == 0
    assert tab.js("[...document.querySelectorAll('#thread a')].map((a) => a.protocol + a.rel)") == ["http:noopener noreferrer"] + ["https:noopener noreferrer"] * 2
    assert "<script>window.harmed = 1</script>" in tab.text(".answer")
    assert not [url for url in tab.urls if not url.startswith(mock.url)]


def test_a_note_is_added_to_the_chosen_store(tab, mock):
    """Only where the server says that requests may; what went wrong leaves what was written."""
    mock.stores, mock.writable = ["my notes", "papers"], ["my notes"]
    open_page(tab, mock)
    pick = "(() => { const s = document.querySelector('#knowledge select'); s.value = %r; s.dispatchEvent(new Event('change')); })()"
    button = "#knowledge button"
    assert tab.js("document.querySelector('%s').hidden" % button)
    tab.js(pick % "papers")
    assert tab.js("document.querySelector('%s').hidden" % button)
    tab.js(pick % "my notes")
    tab.click(button)
    tab.wait("document.querySelector('#note-dialog').open")
    tab.type("# Locker\nIt is locked.")
    tab.click("#note-add")
    tab.wait("document.querySelector('#note-result').innerText.includes('another program')")
    assert "It is locked." in tab.js("document.querySelector('#note-text').value") and not mock.documents
    for said in ("Added to my notes: 2 passages.", "Replaced in my notes: 2 passages."):
        tab.js("(() => { const d = new DataTransfer(); d.items.add(new File(['Foxes bark.'], 'fox.md')); const i = document.querySelector('#note-file');"
               " i.files = d.files; i.dispatchEvent(new Event('change')); })()")
        tab.wait("document.querySelector('#note-text').value === 'Foxes bark.'")
        tab.click("#note-add")
        tab.wait("!document.querySelector('#note-dialog').open && document.querySelector('#toast').innerText.includes('%s')" % said)
        assert mock.requests[-1] == {"id": "fox.md", "title": "fox.md", "text": "Foxes bark."}
        assert mock.documents == {"fox.md": "/v1/rag/stores/my%20notes/docs"}
        tab.click(button)
        tab.wait("document.querySelector('#note-dialog').open && document.querySelector('#note-text').value === ''")
    for edit in ("#note-name", "#note-text"):  # another title, or no text: it is that file no more
        tab.js("(() => { const d = new DataTransfer(); d.items.add(new File(['Owls hoot.'], 'owl.md')); const i = document.querySelector('#note-file');"
               " i.files = d.files; i.dispatchEvent(new Event('change')); })()")
        tab.wait("document.querySelector('#note-text').value === 'Owls hoot.'")
        tab.js("(() => { const i = document.querySelector('%s'); i.value = ''; i.dispatchEvent(new Event('input')); })()" % edit)
        tab.js("document.querySelector('#note-text').value = 'Bats.'")
        tab.click("#note-add")
        tab.wait("!document.querySelector('#note-dialog').open")
        assert "id" not in mock.requests[-1] and mock.requests[-1]["text"] == "Bats."
        tab.click(button)
        tab.wait("document.querySelector('#note-dialog').open && document.querySelector('#note-text').value === ''")


def test_answers_from_documents(tab, mock):
    """The store is picked once; numbers open their passages, which stay text whatever stands in them."""
    open_page(tab, mock)
    assert tab.js("document.querySelector('#knowledge select')") is None  # this server has none
    mock.stores = ["notes", "papers"]
    open_page(tab, mock)
    assert tab.js("[...document.querySelectorAll('#knowledge option')].map((o) => o.innerText)") == ["No documents", "notes", "papers"]
    say(tab, "cited please")
    assert "rag" not in mock.requests[0]
    tab.js("(() => { const s = document.querySelector('#knowledge select'); s.value = 'notes'; s.dispatchEvent(new Event('change')); })()")
    say(tab, "cited again")
    assert mock.requests[1]["rag"] == {"store": "notes"}
    last = "document.querySelector('.turn.reply:last-child')"
    assert tab.js(last + ".querySelector('.answer').innerText").startswith("Nine hours [1]. Blue [1][2], never [9]. a[1] stays.")
    assert tab.js("[...%s.querySelectorAll('.citation')].map((b) => b.innerText)" % last) == ["[1]", "[1]", "[2]"]
    assert tab.js("[...%s.querySelectorAll('.source')].map((d) => d.open)" % last) == [False, False]
    tab.js("%s.querySelector('.citation').click()" % last)
    assert tab.js("[...%s.querySelectorAll('.source')].map((d) => d.open)" % last) == [True, False]
    assert "deck.md:5-7" in tab.js(last + ".querySelector('.source summary').innerText")
    assert tab.js(last + ".querySelector('.source pre').innerText") == "A charge lasts nine hours."
    tab.js("%s.querySelectorAll('.citation')[2].click()" % last)
    assert "<script>window.harmed = 1</script>" in tab.js(last + ".querySelectorAll('.source pre')[1].innerText")
    assert "hardly a word" in tab.js(last + ".querySelectorAll('.source')[1].innerText") and "gives orders" in tab.js(last + ".querySelectorAll('.source')[1].innerText")
    assert tab.js("window.harmed") is None
    assert tab.js("document.querySelectorAll('#thread script, #thread img, #thread iframe, #thread [onerror]').length") == 0
    assert not [url for url in tab.urls if not url.startswith(mock.url)]
    open_page(tab, mock)  # remembered, with its sources
    assert tab.js("document.querySelector('#knowledge select').value") == "notes"
    tab.wait("document.querySelectorAll('.turn.reply .citation').length >= 3")


def test_the_policy_holds(tab, mock):
    """Even if a module were careless, the browser would refuse."""
    open_page(tab, mock)
    refused = "(() => { try { document.body.innerHTML = '<p>x'; return false; } catch { return true; } })()"
    assert tab.js(refused) is True
    tab.js("(() => { const s = document.createElement('style'); s.textContent = 'body{display:none}'; document.head.append(s); })()")
    assert tab.js("getComputedStyle(document.body).display") == "grid"
    assert tab.js("fetch('http://127.0.0.1:1/').then(() => 'went', (e) => e.name)") == "TypeError"
    tab.errors.clear()  # the browser's complaints about the three of them


def test_reasoning_and_tools(tab, mock):
    open_page(tab, mock)
    say(tab, "think about it")
    assert turns(tab)[1] == "Then I speak." and tab.js("document.querySelector('.reasoning').open") is False
    assert tab.js("document.querySelector('.reasoning-text').textContent") == "First I think."
    say(tab, "tool please")
    assert "weather" in tab.text(".calls") and '"city": "Oslo"' in tab.text(".calls pre")
    assert all("think" not in json.dumps(m["content"]) or m["role"] == "user" for m in mock.requests[1]["messages"])


def test_failures_keep_the_half_and_say_what_to_do(tab, mock):
    open_page(tab, mock)
    say(tab, "break now")
    assert turns(tab)[1] == "This half is kept" and "broke off" in tab.text(".note.failed")
    say(tab, "fail now")
    assert turns(tab)[3] == "This half is kept too" and "The device is lost." in tab.text(".note.failed")
    tab.js("[...document.querySelectorAll('.note.failed button')].at(-1).click()")
    tab.wait("document.querySelector('.turn.reply:last-child .branches')?.innerText === '2 / 2' && " + IDLE)
    mock.shutdown()
    mock.server_close()
    say(tab, "anyone there")
    assert "does not answer" in tab.text(".turn:last-child .note.failed") and "Try again" in tab.text(".turn:last-child .note.failed")


def test_overflow_and_how_to_go_on(tab, mock):
    open_page(tab, mock)
    say(tab, "early " * 100)
    say(tab, "again " * 60)
    assert "Little room" in tab.text("#room")
    say(tab, "late " * 60)
    note = tab.text(".note.failed")
    assert "outgrown" in note and "Nothing was cut" in note and "512" in note
    tab.js("[...document.querySelectorAll('.note.failed button')].find((b) => b.innerText.includes('oldest')).click()")
    tab.wait("document.querySelector('.cut') && !document.querySelector('.note.failed') && " + IDLE)
    sent = mock.requests[-1]["messages"]
    assert not any("early" in m["content"] for m in sent) and "late" in sent[-1]["content"]
    assert tab.js("document.querySelectorAll('.left-out').length") >= 2
    tab.click(".cut button")
    tab.wait("!document.querySelector('.cut')")


def test_a_key_is_asked_for(tab, mock):
    mock.key = "s3cret"
    tab.go(mock.url)
    tab.wait("document.querySelector('#key-dialog').open")
    tab.type("wrong")
    tab.press("Enter")
    tab.wait("document.querySelector('#key-dialog').innerText.includes('not accepted')")
    tab.type("s3cret")
    tab.press("Enter")
    tab.wait("document.querySelector('.model-name')?.innerText === 'mock-story'")
    assert tab.js("localStorage.getItem('rotor.key')") is None
    say(tab, "hello")
    assert turns(tab)[1] == "You said: hello"
    mock.key = "changed"
    say(tab, "hello again", wait=False)
    tab.wait("document.querySelector('#key-dialog').open")
    tab.type("changed")
    tab.press("Enter")
    tab.wait("document.querySelectorAll('.turn').length === 4 && !document.querySelector('.note.failed') && " + IDLE)


def test_a_server_that_loads(tab, mock):
    mock.loading = True
    tab.go(mock.url)
    tab.wait("document.querySelector('#banner').innerText.includes('Loading model, 40 %')")
    mock.loading = False
    tab.wait("document.querySelector('.model-name')?.innerText === 'mock-story' && !document.querySelector('#banner').innerText")


def test_settings_and_models(tab, mock):
    mock.two = True
    open_page(tab, mock)
    tab.click("#open-settings")
    tab.click("#system-prompt")
    tab.type("Be brief.")
    for name, value in (("temperature", "0.3"), ("seed", "7"), ("top_p", "9")):
        tab.click("#set-" + name)
        tab.type(value)
    assert tab.js("document.querySelector('#set-top_p').getAttribute('aria-invalid')") == "true"
    tab.press("Escape")
    tab.js("(() => { const s = document.querySelector('#model select'); s.value = 'mock-large'; s.dispatchEvent(new Event('change')); })()")
    tab.wait("document.querySelector('#meter').innerText.includes('4,096')")
    say(tab, "hello")
    request = mock.requests[0]
    assert (request["model"], request["temperature"], request["seed"]) == ("mock-large", 0.3, 7) and "top_p" not in request
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    tab.reload()
    tab.wait(READY + " && document.querySelectorAll('.turn').length === 2")
    tab.click("#open-settings")
    assert tab.js("[document.querySelector('#set-seed').value, document.querySelector('#system-prompt').value, document.querySelector('#model select').value]") == ["7", "Be brief.", "mock-large"]


def test_files_and_long_pastes(tab, mock):
    open_page(tab, mock)
    tab.js("""(() => { const data = new DataTransfer(); data.items.add(new File(['alpha\\nbeta'], 'notes.txt')); data.items.add(new File([Uint8Array.of(0xff, 0)], 'photo.png'));
              document.querySelector('#file-input').files = data.files; document.querySelector('#file-input').dispatchEvent(new Event('change')); })()""")
    tab.wait("document.querySelectorAll('#files li').length === 1 && document.querySelector('#toast').innerText.includes('photo.png is not plain text')")
    tab.js("""(() => { const data = new DataTransfer(); data.setData('text/plain', 'x'.repeat(2500));
              document.querySelector('#prompt').dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, cancelable: true })); })()""")
    tab.wait("document.querySelectorAll('#files li').length === 2")
    tab.click("#files li:nth-child(2) button")
    tab.wait("document.querySelectorAll('#files li').length === 1")
    say(tab, "What is in it?")
    assert mock.requests[0]["messages"][-1]["content"] == "File notes.txt:\n```\nalpha\nbeta\n```\n\nWhat is in it?"
    assert "notes.txt" in tab.text(".turn.user .attached")


def test_search_rename_delete_export_import(tab, mock):
    open_page(tab, mock)
    say(tab, "about apples")
    tab.click("#new-chat")
    say(tab, "about pears")
    tab.wait("[...document.querySelectorAll('#conversations .open')].map((n) => n.innerText).join() === 'about pears,about apples'")
    tab.click("#search")
    tab.type("APPLES")
    tab.wait("document.querySelectorAll('#conversations li').length === 1")
    tab.press("Escape")
    tab.wait("document.querySelectorAll('#conversations li').length === 2")
    tab.js("window.saved = null; URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return 'data:,'; }; HTMLAnchorElement.prototype.click = () => {};")
    tab.click("#open-data")
    tab.click("#data-dialog .choices button:nth-child(1)")
    saved = json.loads(tab.wait("window.saved"))
    assert saved["format"] == "rotor-conversations" and len(saved["conversations"]) == 2
    tab.click("#data-dialog .danger")
    tab.wait("document.querySelector('#data-title').innerText === 'Delete 2 conversations?'")
    tab.click("#delete-all")
    tab.wait("document.querySelectorAll('#conversations li').length === 0 && !document.querySelector('.turn')")
    tab.click("#open-data")
    tab.js("(() => { const data = new DataTransfer(); data.items.add(new File([window.saved], 'a.json')); const i = document.querySelector('#data-dialog input[type=file]'); i.files = data.files; i.dispatchEvent(new Event('change')); })()")
    tab.wait("document.querySelector('#data-result').innerText.startsWith('Imported: 2 new')")
    tab.press("Escape")
    tab.reload()
    tab.wait(READY + " && document.querySelectorAll('#conversations li').length === 2")
    tab.click("#conversations li:nth-child(1) .open")
    tab.wait("document.querySelector('.said')?.innerText === 'about pears'")
    tab.click("#conversations li:nth-child(1) [aria-label^='Delete']")
    tab.wait("document.querySelectorAll('#conversations li').length === 1")
    tab.click("#toast button")
    tab.wait("document.querySelectorAll('#conversations li').length === 2")


def test_two_tabs_agree(browser, tab, mock):
    """A second tab of the same profile sees what the first one writes and deletes."""
    open_page(tab, mock)
    other = browser.tab(beside=tab)
    open_page(other, mock)
    say(tab, "written here")
    other.wait("document.querySelector('#conversations .open')?.innerText === 'written here'")
    other.js("document.querySelector('#conversations .open').click()")
    other.wait("document.querySelectorAll('.turn').length === 2")
    say(tab, "and more")
    other.wait("document.querySelectorAll('.turn').length === 4")
    tab.js("document.querySelector('#conversations [aria-label^=Delete]').click()")
    other.wait("!document.querySelector('#conversations li')")
    assert not other.errors, other.errors
    other.close()


def test_a_narrow_screen(browser, mock):
    tab = browser.tab(360, 640, mobile=True)
    open_page(tab, mock)
    say_button = "document.querySelector('#send').click()"
    tab.js("(() => { const p = document.querySelector('#prompt'); p.value = 'hostile'; p.dispatchEvent(new Event('input')); })()")
    tab.js(say_button)
    tab.wait("document.querySelectorAll('.turn.reply').length && " + IDLE)
    assert tab.js("document.documentElement.scrollWidth") <= 360
    assert tab.js("[...document.querySelectorAll('#page *')].filter((n) => !n.closest('pre, .table, .unseen') && (n.getBoundingClientRect().right > 361 || n.getBoundingClientRect().left < -1)).map((n) => n.className || n.nodeName)") == []
    assert tab.js("document.querySelector('#sidebar').getBoundingClientRect().right") <= 0
    tab.click("#open-sidebar")
    tab.wait("document.querySelector('#sidebar').getBoundingClientRect().left === 0")
    tab.click("#conversations .open")
    tab.wait("document.querySelector('#sidebar').getBoundingClientRect().right <= 0")
    assert not tab.errors, tab.errors
    tab.close()


def test_every_control_has_a_name(tab, mock):
    open_page(tab, mock)
    say(tab, "hello")
    tab.click("#open-settings")
    nameless = tab.js("""[...document.querySelectorAll('button, input, textarea, select')].filter((n) => !n.hidden && n.type !== 'file' && !(n.innerText?.trim() && n.nodeName === 'BUTTON')
        && !n.getAttribute('aria-label') && !n.labels?.length).map((n) => n.outerHTML)""")
    assert nameless == []


def test_colours_can_be_read(tab, mock):
    """Text against its ground, light and dark: at least 4.5 to 1, as WCAG AA asks."""
    open_page(tab, mock)
    ratio = """(() => { const style = getComputedStyle(document.documentElement); const light = (name) => { const [r, g, b] = style.getPropertyValue(name).trim().match(/\\w\\w/g)
        .map((x) => parseInt(x, 16) / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const pairs = [['--ink', '--paper'], ['--ink', '--said'], ['--ink', '--raised'], ['--soft', '--paper'], ['--soft', '--side'], ['--soft', '--hover'], ['--accent', '--paper'], ['--on-accent', '--accent'], ['--danger', '--danger-tint'], ['--ink', '--danger-tint']];
        return pairs.map(([a, b]) => [a, b, (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05)]).filter(([, , r]) => r < 4.5); })()"""
    for scheme in ("light", "dark"):
        tab.colours(scheme)
        assert tab.js(ratio) == [], scheme
    tab.colours("light")
    before = tab.js("getComputedStyle(document.body).backgroundColor")
    tab.click("#theme")
    tab.click("#theme")
    assert tab.js("document.documentElement.dataset.theme") == "dark" and tab.js("getComputedStyle(document.body).backgroundColor") != before
