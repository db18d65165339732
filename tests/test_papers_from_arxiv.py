"""Papers that the Hub has no text of come from arXiv's pages, then ar5iv's; politely, and never with a token."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stand_ins.arxiv import FORMULA, ArxivServer, latexml, use_arxiv
from stand_ins.hub import APaper, HubServer
from stand_ins.hub.running import use

from autolab import __version__
from autolab.hub.papers import arxiv
from autolab.hub.papers import html as paper_html
from autolab.hub.papers import reading as papers
from autolab.hub.papers import text as paper_text
from autolab.hub.papers.html import to_markdown
from autolab.hub.papers.shelf import Paper

pytestmark = pytest.mark.hub

NAME = "2401.00001"
AT_ARXIV, AT_AR5IV = f"/arxiv/html/{NAME}", f"/ar5iv/html/{NAME}"
METHOD = (
    '<section class="ltx_section"><h2 class="ltx_title ltx_title_section">'
    '<span class="ltx_tag ltx_tag_section">1 </span>Method</h2><div class="ltx_para">'
    f'<p class="ltx_p">We set {FORMULA.format(display="inline")} as in <cite>[<a href="#bib">1</a>]</cite>.</p>'
    "</div></section>"
)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArxivServer]:
    with ArxivServer() as server:
        use_arxiv(monkeypatch, server)
        yield server


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        use(monkeypatch, server, tmp_path / "home")
        server.papers[NAME] = APaper("Herds", "Only an abstract.", published="2024-01-01T01:00:00Z")
        yield server


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "papers"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long would have been waited, each time; it is not."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def outlined(paper: Paper) -> paper_text.Shown:
    return paper_text.show_outline(paper, "scripts/papers.py")


# where a text comes from ----------------------------------------------------------------------------


@pytest.mark.parametrize("markdown", ["", None])  # the Hub's own web page; 404
def test_arxiv_is_asked_where_the_hub_has_no_markdown(
    hub: HubServer, site: ArxivServer, shelf: Path, markdown: str | None
) -> None:
    hub.papers[NAME].markdown = markdown
    site.pages[AT_ARXIV] = latexml("Herds", METHOD)
    paper = papers.read(shelf, NAME)
    assert (paper.source, paper.published) == ("arxiv_html", "2024-01-01")
    assert [section.title for section in paper_text.sections(paper)] == ["Herds", "Abstract", "1 Method"]
    assert outlined(paper).said.startswith(f"paper {NAME} (arxiv_html, 2024-01-01): 3 sections")
    assert papers.read(shelf, NAME) == paper and len(site.requests) == 1


def test_ar5iv_is_asked_where_arxiv_has_no_page(hub: HubServer, site: ArxivServer, shelf: Path) -> None:
    site.pages[AT_AR5IV] = latexml("Herds", METHOD)
    assert papers.read(shelf, NAME).source == "ar5iv"
    assert [path for path, _ in site.requests] == [AT_ARXIV, AT_AR5IV]


def test_the_page_of_the_abstract_is_not_taken_for_the_paper(
    hub: HubServer, site: ArxivServer, shelf: Path
) -> None:
    paper = papers.read(shelf, NAME)
    assert (paper.source, paper.text, paper.problem) == ("abstract_only", "Only an abstract.", "")
    assert [path for path, _ in site.requests] == [AT_ARXIV, AT_AR5IV]
    papers.read(shelf, NAME)
    assert len(site.requests) == 2


def test_a_redirection_on_the_same_site_is_followed(hub: HubServer, site: ArxivServer, shelf: Path) -> None:
    site.pages[AT_ARXIV] = lambda: (301, {"Location": f"{AT_ARXIV}v2"}, b"")
    site.pages[AT_ARXIV + "v2"] = latexml("Herds", METHOD)
    assert papers.read(shelf, NAME).source == "arxiv_html"


def test_redirections_without_an_end_have_one(hub: HubServer, site: ArxivServer, shelf: Path) -> None:
    site.pages[AT_ARXIV] = lambda: (302, {"Location": AT_ARXIV}, b"")
    paper = papers.read(shelf, NAME)
    assert paper.source == "abstract_only" and "nothing but redirections" in paper.problem
    assert len(site.requests) == arxiv.HOPS + 1


def test_an_id_from_before_2007_is_asked_for_as_it_is(hub: HubServer, site: ArxivServer, shelf: Path) -> None:
    site.pages["/arxiv/html/cs/9901001"] = latexml("Old herds", METHOD)
    source, text = arxiv.read(shelf, "cs/9901001", until=time.monotonic() + 60)
    assert source == "arxiv_html" and text.startswith("# Old herds")


# manners --------------------------------------------------------------------------------------------


def test_requests_name_the_program_and_hold_no_token(hub: HubServer, site: ArxivServer, shelf: Path) -> None:
    papers.read(shelf, NAME)
    for _, headers in site.requests:
        assert headers["user-agent"] == f"autolab/{__version__}"
        assert "authorization" not in headers and "hf_" not in str(headers)


def test_there_are_three_seconds_between_requests_of_all_processes(
    hub: HubServer,
    site: ArxivServer,
    shelf: Path,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arxiv, "INTERVAL", 3.0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    papers.read(shelf, NAME)
    assert waits == [3.0]
    assert float((shelf / "arxiv.turn").read_text()) == now + 6  # as another process would find it


def test_those_who_ask_at_once_get_a_turn_each(
    shelf: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arxiv, "INTERVAL", 3.0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: arxiv._wait_for_turn(shelf, float("inf"), "here"), range(4)))
    assert sorted(round(wait) for wait in waits) == [3, 6, 9]


@pytest.mark.parametrize("damaged", ["", "soon", "nan", "-inf", "1e300"])
def test_a_damaged_turn_holds_nobody_up(
    hub: HubServer, site: ArxivServer, shelf: Path, waits: list[float], damaged: str
) -> None:
    shelf.mkdir()
    (shelf / "arxiv.turn").write_text(damaged)
    papers.read(shelf, NAME)
    assert waits == [] and len(site.requests) == 2


def test_a_site_that_wants_a_pause_gets_it(
    hub: HubServer, site: ArxivServer, shelf: Path, waits: list[float]
) -> None:
    def busy() -> tuple[int, dict[str, str], bytes]:
        site.pages[AT_ARXIV] = latexml("Herds", METHOD)
        return 429, {"Retry-After": "7"}, b""

    site.pages[AT_ARXIV] = busy
    assert papers.read(shelf, NAME).source == "arxiv_html"
    assert [round(wait) for wait in waits] == [7]


def test_a_longer_pause_than_a_command_may_take_leaves_the_abstract_and_says_so(
    hub: HubServer, site: ArxivServer, shelf: Path, waits: list[float]
) -> None:
    site.pages[AT_ARXIV] = lambda: (503, {"Retry-After": "900"}, b"")
    paper = papers.read(shelf, NAME)
    assert waits == [] and len(site.requests) == 1
    said = outlined(paper).said
    assert (
        paper.source == "abstract_only" and "only the abstract: " in said and "left alone for 900 s" in said
    )


def test_an_unreachable_arxiv_leaves_the_abstract_and_is_asked_again_soon(
    hub: HubServer, site: ArxivServer, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOLAB_ARXIV", "http://127.0.0.1:9")
    paper = papers.read(shelf, NAME)
    assert (paper.source, paper.text) == ("abstract_only", "Only an abstract.")
    assert paper.problem == "http://127.0.0.1:9: does not answer (ConnectError)"
    assert papers.read(shelf, NAME) == paper
    use_arxiv(monkeypatch, site)
    site.pages[AT_ARXIV] = latexml("Herds", METHOD)
    monkeypatch.setattr(papers, "TRY_AGAIN", 0.0)
    assert papers.read(shelf, NAME).source == "arxiv_html"


@pytest.mark.parametrize("address", ["nonsense", "http://[", "ftp://arxiv.org", "http://127.0.0.1:x"])
def test_a_wrong_address_is_told_and_costs_only_the_text(
    hub: HubServer, site: ArxivServer, shelf: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("AUTOLAB_ARXIV", address)
    paper = papers.read(shelf, NAME)
    assert paper.source == "abstract_only" and paper.problem.startswith(f"{address}: does not answer (")


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"Content-Type": "application/pdf"}, b"%PDF"),
        (200, {"Content-Type": "text/html"}, b"\xff\xfe<article"),
        (200, {"Content-Type": "text/html"}, b""),
        (200, {"Content-Type": "text/html"}, b"<html><article>Not available.</article></html>"),
        (302, {"Location": "http://[::1"}, b""),
        (302, {"Location": "https://evil.example/html/x"}, b""),
        (500, {}, b""),
    ],
)
def test_an_answer_that_is_no_paper_leaves_the_next_site(
    hub: HubServer, site: ArxivServer, shelf: Path, answer: tuple[int, dict[str, str], bytes]
) -> None:
    site.pages[AT_ARXIV] = lambda: answer
    site.pages[AT_AR5IV] = latexml("Herds", METHOD)
    assert papers.read(shelf, NAME).source == "ar5iv"


# pages into Markdown --------------------------------------------------------------------------------


def test_formulas_keep_their_tex() -> None:
    text = to_markdown(latexml("Herds", METHOD))
    assert "We set $\\alpha_{1}<5+2$ as in [1]." in text


def test_a_formula_without_alternative_text_has_its_annotation() -> None:
    formula = '<math><semantics><mi>A</mi><annotation encoding="application/x-tex">A=1</annotation></semantics></math>'
    assert "with $A=1$ cows" in to_markdown(latexml("Herds", f"<p>with {formula} cows</p>"))


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        (
            '<table class="ltx_equation ltx_eqn_table"><tbody><tr class="ltx_eqn_row"><td></td><td>'
            f"{FORMULA.format(display='block')}</td><td><span>(3)</span></td></tr></tbody></table>",
            "\n\n$$\\alpha_{1}<5+2$$ (3)",
        ),
        (
            '<span class="ltx_tabular"><span class="ltx_tr"><span class="ltx_td">cows</span>'
            '<span class="ltx_td">7</span></span></span>',
            "\n| cows | 7 |",
        ),
        (
            '<div class="ltx_listing"><div class="ltx_listing_data"><a href="data:x">source</a></div>'
            '<div class="ltx_listingline"><span class="ltx_tag ltx_tag_listingline">1</span># a comment</div>'
            '<div class="ltx_listingline">    x = 1</div></div>',
            "```\n# a comment\n    x = 1\n```",
        ),
        (
            '<ul><li class="ltx_item"><span class="ltx_tag ltx_tag_item">•</span><p>grass</p></li></ul>',
            "\n- grass",
        ),
        (
            'cows<span class="ltx_note"><sup class="ltx_note_mark">1</sup><span class="ltx_note_outer">'
            '<span class="ltx_note_content"><sup class="ltx_note_mark">1</sup>and bulls</span></span></span>',
            "cows (note: and bulls)",
        ),
        ('<h6 class="ltx_title ltx_runin ltx_title_theorem">Theorem 1</h6>', "**Theorem 1**"),
        ("a_b * c_d <b>bold</b>", "a_b * c_d **bold**"),
    ],
)
def test_what_markdown_has_a_form_for_gets_it(html: str, markdown: str) -> None:
    assert markdown in to_markdown(latexml("Herds", f"<div>{html}</div>"))


def test_navigation_pictures_and_bibliography_are_left_out() -> None:
    text = to_markdown(latexml("Herds", '<img src="x.png" alt="Refer to caption"><button>Report</button>'))
    for word in ("Contents", "Generated", "alert", "Somebody", "References", "Refer", "Report"):
        assert word not in text


def test_a_paper_of_five_megabytes_is_read(hub: HubServer, site: ArxivServer, shelf: Path) -> None:
    """Most of such a page is the insides of formulas."""
    formula = FORMULA.format(display="inline").replace("<mi>a</mi>", "<mi>a</mi>" * 2_000)
    body = f"{METHOD}<p>{formula}</p>" * (5_000_000 // len(formula))
    site.pages[AT_ARXIV] = page = latexml("Herds", body)
    assert len(page) > 4_900_000
    paper = papers.read(shelf, NAME)
    assert len(paper_text.sections(paper)) > 200
    shown = outlined(paper)
    assert len(shown.text) + len(shown.said) < 4_000
    last = paper_text.find_section(paper, str(len(paper_text.sections(paper))))
    assert len(paper_text.show_section(paper, last, "scripts/papers.py").text) < 8_000


def test_a_page_is_cut_where_it_gets_too_long(
    hub: HubServer, site: ArxivServer, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arxiv, "DOWNLOAD_LIMIT", 2_000)
    site.pages[AT_ARXIV] = latexml("Herds", METHOD + "<p>cows</p>" * 10_000)
    text = papers.read(shelf, NAME).text
    assert text.startswith("# Herds") and len(text) < 2_000


TAGS = ("article", "div", "p", "h1", "h2", "table", "tr", "td", "ul", "li", "pre", "math", "span", "a", "img")
PIECES = st.one_of(
    st.sampled_from(
        [f"<{tag}>" for tag in TAGS]
        + [f"</{tag}>" for tag in TAGS]
        + [f'<{tag} class="{name}">' for tag in ("div", "span", "table", "li") for name in
           ("ltx_document", "ltx_listing", "ltx_listingline", "ltx_eqn_table", "ltx_tabular", "ltx_tr", "ltx_td",
            "ltx_note_content", "ltx_tag_item", "ltx_bibliography", "ltx_title_theorem", "", " ltx_ltx  ")]
        + ['<math alttext="', '">', "<!--", "-->", "<![CDATA[", "]]>", "<!x", "<?", "&lt;&lt;&lt;END", "&#60;" * 3,
           "&#xFFFFFFF;", "&#0;", "<<<", ">>>", "<<<END paper", "\\", "\u202e", "\x00", "\ud800", "```\n", "# x\n"]
    ),
    st.text(max_size=8),
)  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(st.lists(PIECES, max_size=40).map("".join))
@example('<article class="ltx_document">' + "<div>" * 3_000 + "x" * 300)
@example('<article><math alttext="' * 3)
@example("<" * 1_000 + ">" * 1_000)
def test_no_page_breaks_the_conversion_or_smuggles_a_marker(page: str) -> None:
    inside = f'<article class="ltx_document"><p>{"cows " * 50}</p>{page}'
    for text in (to_markdown(page), to_markdown(inside)):
        assert len(text) <= paper_html.TEXT_LIMIT
        paper = dataclasses.replace(
            Paper(NAME, "Herds", "2024-01-01", "", "2024-01-01T00:00:00Z"), source="arxiv_html", text=text
        )
        shown = [outlined(paper)]
        shown += [paper_text.show_section(paper, s, "papers") for s in paper_text.sections(paper)[:3]]
        for answer in shown:
            assert len(answer.text) + len(answer.said) <= 8_000
            assert answer.text.count("<<<") == answer.text.count(">>>") == 2
            assert answer.text.startswith(f"<<<UNTRUSTED paper {NAME} (arxiv_html, 2024-01-01)")


def test_formulas_without_an_end_are_looked_for_once() -> None:
    page = "<math " * 200_000
    assert list(paper_html._pieces(page)) == [page]
