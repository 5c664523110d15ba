"""Claims about channels: what arrives, what is said of one that does not answer, and what is never said."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from copilot_quant_pipeline.alerts.channels import Channel, channels_of, expect_channels, send_letter
from copilot_quant_pipeline.alerts.cycle import ProblemsFound, book_of, look, tell
from copilot_quant_pipeline.alerts.delivery import LONGEST_QUEUE, deliver, queue_letters
from copilot_quant_pipeline.alerts.incidents import plan_messages
from copilot_quant_pipeline.alerts.store import AlertState, BookFile, BusyBookError
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.alerts.conftest import LETTER, Mailbox, Webhook
from copilot_quant_pipeline_tests.alerts.test_incidents import TROUBLE
from copilot_quant_pipeline_tests.cli.conftest import Desk, desk  # noqa: F401 a fixture
from copilot_quant_pipeline_tests.conftest import NOW

SECRET = "hunter2-s3cret"  # noqa: S105 a made-up one


def test_a_webhook_is_given_the_words_as_they_are(webhook: Webhook) -> None:
    assert send_letter(Channel(1, webhook.url), LETTER) is None
    (post,) = webhook.posts
    assert (post["title"], post["message"], post["type"]) == (LETTER.title, LETTER.body, "failure")


def test_a_mail_is_well_formed(mailbox: Mailbox) -> None:
    mailbox.envelopes.clear()
    assert send_letter(Channel(1, mailbox.url), LETTER) is None
    (mail,) = mailbox.mails
    assert mail.defects == []
    assert mail["Subject"] == LETTER.title
    assert "platform@quant.example" in mail["From"]
    assert "ops@quant.example" in mail["To"]
    assert mail["Date"]
    assert mail["Message-ID"]
    plain, rich = (mail.get_body((kind,)) for kind in ("plain", "html"))
    text = " ".join(part.get_content() for part in (plain, rich) if part)
    assert "keeps" in text
    assert "a line" in text
    assert rich is None or "&lt;has&gt; &amp; keeps" in rich.get_content()  # words are never taken for markup


def test_what_a_channel_says_is_told_and_no_part_of_its_url(
    webhook: Webhook, dead: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    webhook.status = 404
    urls = [
        f"json://me:{SECRET}@127.0.0.1:{webhook.port}/{SECRET}/hook?+Authorization={SECRET}",
        f"json://me:{SECRET}@127.0.0.1:{dead.port}/{SECRET}",
        f"mailto://me:{SECRET}@127.0.0.1:{dead.port}/?to=ops@quant.example&from=a@quant.example&mode=insecure",
        f"slack://{SECRET}/x/y",
        f"nonsense://{SECRET}",
    ]
    said = [send_letter(channel, LETTER) for channel in channels_of(urls)]
    assert said[0] is not None
    assert "error=404" in said[0]
    assert said[1] is not None
    assert "Connection error" in said[1]
    assert all(said)
    assert SECRET not in f"{said} {channels_of(urls)} {[c.name for c in channels_of(urls)]}"
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", [f"slak://{SECRET}/b/c", f"slack://{SECRET}", "json://", f"mailto://{SECRET}"])
def test_a_bad_url_is_one_line_that_names_it_without_telling_it(url: str) -> None:
    with pytest.raises(UserError) as refused:
        expect_channels(["json://127.0.0.1/hook", url])
    line = str(refused.value)
    assert "\n" not in line
    assert f"channel 2 ({url.partition('://')[0]})" in line
    assert SECRET not in line


@pytest.mark.parametrize(
    "url",
    [
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "mailto://me:secret@smtp.quant.example:587/?from=me@quant.example&to=ops@quant.example",
        "jsons://hooks.quant.example/alerts",
        "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    ],
)
def test_the_urls_of_the_readme_are_understood(url: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert url in readme
    assert expect_channels([url])


def test_a_dead_channel_keeps_its_letters_and_holds_up_no_other(webhook: Webhook, dead: Webhook) -> None:
    channels = channels_of([dead.url, webhook.url])
    letters = [replace(LETTER, title=f"{n}") for n in range(3)]
    kept: list[AlertState] = []
    book, delivered = deliver(queue_letters(AlertState(), letters, channels), channels, kept.append)
    assert webhook.titles == ["0", "1", "2"]
    assert delivered.sent == {"2 (json)": 3}
    assert list(book.waiting) == [channels[0].id]
    assert kept[-1] == book
    dead.open()
    book, _ = deliver(book, channels, kept.append)
    assert dead.titles == webhook.titles
    assert book.waiting == {}


def test_a_queue_has_an_end_and_a_channel_that_is_no_longer_set_has_none() -> None:
    channels = channels_of(["json://127.0.0.1/hook"])
    letters = [replace(LETTER, title=f"{n}") for n in range(LONGEST_QUEUE + 5)]
    book = queue_letters(AlertState(), letters, channels)
    assert [letter.title for letter in book.waiting[channels[0].id]][:2] == ["5", "6"]
    assert queue_letters(book, letters, []).waiting == {}


def _found() -> ProblemsFound:
    return ProblemsFound((TROUBLE,), frozenset(), None)


def test_without_a_channel_a_message_is_a_log_line(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    said = tell(settings, lambda _: _found())
    assert "in the log only" in said
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage().startswith("a is broken: a is broken. Since 2024-03-29 14:00 UTC.")
    assert book_of(settings).read().waiting == {}


def test_a_url_that_cannot_be_used_stops_no_other(settings: Settings, webhook: Webhook) -> None:
    settings = replace(settings, alert_urls=(f"slak://{SECRET}", webhook.url))
    said = tell(settings, lambda _: _found())
    assert webhook.titles == ["a is broken"]
    assert "channel 1 (slak) cannot be used" in said
    assert SECRET not in said


def test_whoever_is_interrupted_while_sending_has_lost_nothing(settings: Settings, webhook: Webhook) -> None:
    settings = replace(settings, alert_urls=(webhook.url,))
    file = book_of(settings)
    _, incidents = plan_messages({}, [TROUBLE], (), NOW)
    with file.turn():
        file.write(queue_letters(AlertState(incidents=incidents), [LETTER], channels_of(settings.alert_urls)))
    tell(settings, lambda _: _found())
    tell(settings, lambda _: _found())
    assert webhook.titles == [LETTER.title]


def test_only_one_process_tells_at_a_time(settings: Settings) -> None:
    file = book_of(settings)
    with file.turn():
        assert "Another process" in tell(settings, lambda _: _found())
        with pytest.raises(BusyBookError), file.turn():
            pass


def test_a_book_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    file = BookFile(tmp_path / "book.json")
    file.path.write_text("{")
    assert file.read() == AlertState()
    assert (tmp_path / "book.unreadable.json").read_text() == "{"


def test_a_book_reads_back_as_written(tmp_path: Path) -> None:
    file = BookFile(tmp_path / "book.json")
    _, incidents = plan_messages({}, [TROUBLE], (), NOW)
    book = AlertState(incidents=incidents, looked_until=NOW, looked_at=("run",), waiting={"id": (LETTER,)})
    file.write(book)
    assert file.read() == book


def test_a_source_that_breaks_silences_no_other() -> None:
    def broken() -> list[object]:
        raise RuntimeError("no such table")

    troubles, unseen = look({"checks": broken, "runs": lambda: [TROUBLE]}, NOW)  # type: ignore[dict-item]
    assert unseen == {"checks"}
    assert [trouble.key for trouble in troubles] == ["watch/checks", "run/a"]
    assert troubles[0].examples == ("RuntimeError: no such table",)


class TestCommand:
    def test_each_url_is_tried_and_told_of(self, desk: Desk, webhook: Webhook, dead: Webhook) -> None:  # noqa: F811
        desk.set({"COPILOT_QUANT_ALERT_URLS": webhook.url})
        said = desk.run("alerts", "test")
        assert (said.code, said.out) == (0, "channel 1 (json): sent\n")
        assert webhook.titles == ["copilot-quant: a test"]
        desk.set({"COPILOT_QUANT_ALERT_URLS": f"{webhook.url} {dead.url}"})
        said = desk.run("alerts", "test")
        assert said.code == 1
        assert "channel 2 (json): NOT sent: A Connection error" in said.out

    def test_without_a_url_or_with_a_bad_one_it_says_what_to_do_in_one_line(self, desk: Desk) -> None:  # noqa: F811
        said = desk.run("alerts", "test")
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "COPILOT_QUANT_ALERT_URLS" in said.err
        for bad in (f"slak://{SECRET}", SECRET):
            desk.set({"COPILOT_QUANT_ALERT_URLS": bad})
            for command in (("alerts", "test"), ("ui",)):
                said = desk.run(*command)
                assert (said.code, said.err.count("\n")) == (2, 1)
                assert SECRET not in said.err

    def test_what_is_open_and_what_waits_is_listed(self, desk: Desk, dead: Webhook) -> None:  # noqa: F811
        assert desk.run("alerts", "list").out == "0 open; 0 messages waiting for a channel.\n"
        tell(replace(desk.settings, alert_urls=(dead.url,)), lambda _: _found())
        assert desk.run("alerts", "list").out == (
            "since 2024-03-29 14:00 UTC: a is broken\n1 open; 1 message waiting for a channel.\n"
        )
        assert '"key": "run/a"' in desk.run("alerts", "list", "--json").out
