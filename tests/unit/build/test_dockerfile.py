"""What a repository's Dockerfile may not do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.build.dockerfile import LocalImages, Plan, check_dockerfile, expand
from tljh_plugin.errors import DockerfileRefused, ReservedLabel

HERE = LocalImages(
    names=frozenset(
        {"victim:latest", "python:3.11", "littlest-binder/base:latest", "host:5000/team/image:1"}
    ),
    only_here=frozenset({"victim:latest", "host:5000/team/image:1"}),
)
OURS = "FROM littlest-binder/base\n"


def check(text: str, **arguments: str) -> Plan:
    return check_dockerfile(text, arguments, HERE)


def refusal(text: str, **arguments: str) -> str:
    with pytest.raises(DockerfileRefused) as caught:
        check(text, **arguments)
    assert caught.value.next_step
    return caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        OURS,
        "FROM littlest-binder/base:0123456789ab\n",
        "FROM littlest-binder/base:0123456789ab-python-3.12\n",
        "FROM littlest-binder/debian:bookworm\n",
        OURS + "COPY . /home/jovyan\nADD data.tar.gz /data\nRUN --mount=type=cache,target=/c make\n",
        OURS + "RUN pip install \\\n    # why\n\n    numpy\n",
        "FROM scratch\nCOPY file /\n",
        f"{OURS[:-1]} AS first\nFROM first\nCOPY --from=first /a /b\nCOPY --from=0 /a /b\n",
        OURS + "ADD ./data/$VERSION.tar /data/\n",
        OURS + "ENV PLACE=data\nADD $PLACE/a /b\n",
        OURS + "RUN git clone https://example.org/a\nRUN curl http://127.0.0.1/\n",
        OURS + "RUN python <<EOF\nfrom math import pi\nprint(pi)\nEOF\n",
        OURS + "RUN [ $(( 1 << 3 )) = 8 ]\n",
    ],
)
def test_what_stays_in_the_repository_is_allowed(text: str) -> None:
    assert check(text).pull == ("littlest-binder" not in text and "scratch" not in text)


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("ADD a.tar /b", ("a.tar", "/b")),
        ('ADD ["a.tar", "/b"]', ("a.tar",)),
        ("ONBUILD ADD a.tar /b", ("a.tar",)),
        ("ENV A=a\nADD $A.tar /b", ("a.tar",)),
        ("ARG A\nADD x/${A}.tar /b", ("x/\0.tar",)),
        ("COPY a.tar /b", ()),
    ],
)
def test_what_may_be_unpacked_is_told(line: str, added: tuple[str, ...]) -> None:
    assert set(added) <= set(check(OURS + line + "\n").added)
    assert bool(added) == bool(check(OURS + line + "\n").added)


@pytest.mark.parametrize(
    "label",
    [
        'LABEL org.littlest-binder.commit="0"',
        "LABEL a=b \\\n  org.littlest-binder.identity=1",
        'label "org.littlest-binder.signature"=x',
        "ENV WHO=littlest-binder\nLABEL org.$WHO.commit=0",
        "ONBUILD LABEL org.littlest-binder.commit=0",
    ],
)
def test_labels_of_ours_are_refused(label: str) -> None:
    with pytest.raises(ReservedLabel, match="Line"):
        check(f"{OURS}{label}\n")


def test_images_of_a_registry_are_fetched_from_there_even_if_they_are_here() -> None:
    assert check("FROM python:3.11\nRUN true\n") == Plan(pull=True)


@pytest.mark.parametrize(
    "text",
    [
        "FROM victim",
        "FROM victim:latest",
        "from VICTIM".replace("VICTIM", "victim"),
        "FROM docker.io/library/victim",
        "FROM index.docker.io/victim",
        "FROM docker.io/victim",
        "FROM library/victim:latest",
        'FROM "victim"',
        "FROM 'victim'",
        "FROM vic\\tim",
        "FROM --platform=$BUILDPLATFORM victim AS x",
        "FROM \\\n# comment\n\n  victim",
        "ARG BASE=victim\nFROM $BASE",
        "ARG BASE=victim\nFROM ${BASE}",
        "ARG BASE=vic\nFROM ${BASE}tim",
        "FROM ${BASE:-victim}",
        "ARG BASE=x\nFROM ${BASE:+victim}",
        "ARG A=victim\nARG BASE=$A\nFROM $BASE",
        "\ufeffFROM victim",
        "FROM victim\r",
        "FROM host:5000/team/image:1",
        OURS + "COPY --from=victim /secret /",
        OURS + "COPY --chown=1 --from=victim /secret /",
        OURS + "copy --from=victim /secret /",
        OURS + "RUN --mount=type=bind,from=victim,target=/v cp -r /v /w",
        OURS + "RUN --mount=type=cache,FROM=victim,target=/v true",
        OURS + "RUN --network=none --mount=type=bind,source=/,from=victim,target=/v true",
        OURS + "ONBUILD COPY --from=victim /secret /",
        OURS + "COPY --from=python:3.11 /secret /",
        # The second `victim` is no stage for a builder that knows here-documents.
        OURS + "RUN <<EOF\nFROM scratch AS victim\nEOF\nCOPY --from=victim /secret /",
        # Nor is this hidden from one that knows them not.
        OURS + "RUN cat <<EOF\nEOF2\nFROM victim\n",
        OURS + "RUN echo `\nCOPY --from=victim /secret /",
        "# a comment\n# escape=`\n" + OURS + "RUN echo `\nCOPY --from=victim /secret /",
    ],
)
def test_images_of_this_machine_are_refused(text: str) -> None:
    assert "is an image of this machine" in refusal(text)


def test_the_builds_arguments_count() -> None:
    assert "`victim:latest`" in refusal("ARG BASE=python:3.11\nFROM $BASE", BASE="victim")
    assert check("ARG BASE=victim\nFROM $BASE", BASE="python:3.11").pull


@pytest.mark.parametrize(
    "text",
    [
        "FROM $UNKNOWN",
        "FROM ${BASE#x}",
        "FROM ${BASE",
        "ARG BASE\nFROM $BASE",
        f"{OURS[:-1]} AS one\nARG BASE=one\nFROM $BASE",
        OURS + "COPY --from=$STAGE /a /b",
        OURS + 'COPY --fr"om=victim" /a /b',
        OURS + "COPY --fr\\om=victim /a /b",
        OURS + 'RUN --mount="type=bind,from=victim" true',
        OURS + "RUN --mount=type=bind,from=$X true",
        OURS + "ADD $SOURCE /x",
        OURS + "ARG SOURCE=./file\nADD $SOURCE /x",  # loses to an ENV of the base image
        OURS + "ENV SOURCE=./file\nENV SOURCE='$OTHER'\nADD $SOURCE /x",
        OURS + "ADD http${X} /x",
        OURS + "RUN cat <<'E O F'\nx\n",
        "FROM 0123456789abcdef",
        "FROM sha256:" + "0" * 64,
        "FROM Victim",
    ],
)
def test_what_cannot_be_evaluated_is_refused(text: str) -> None:
    message = refusal(text)
    assert any(words in message for words in ("cannot be evaluated", "cannot be read", "is not the name"))


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1:8000/",
        "HTTPS://example.org/a",
        "git@example.org:a/b.git",
        "ssh://git@example.org/a",
        "--chown=1 http://example.org/",
        'h"ttp"://example.org/',
        "h\\ttp://example.org/",
        "file http://example.org/",
        "[file]://x",
    ],
)
def test_addresses_are_not_added(source: str) -> None:
    if source.startswith("[file]"):
        text = OURS + 'ADD ["\\u0068ttp://127.0.0.1/", "/x"]'
    else:
        text = OURS + f"ADD {source} /x"
    assert "fetch an address" in refusal(text)


def test_an_address_in_a_variable_is_not_added() -> None:
    assert "fetch an address" in refusal(OURS + "ENV A=http://x B=/y\nADD $A$B /x")
    assert "fetch an address" in refusal(OURS + "ENV A http://x\nADD $A /x")
    assert "fetch an address" in refusal(f"{OURS[:-1]} AS a\nENV A=http://x\nFROM a\nADD $A /x")
    assert "fetch an address" in refusal(OURS + "ONBUILD ADD http://x /x")


@pytest.mark.parametrize(
    "first",
    [
        "# syntax=x/y",
        "#syntax = x",
        "# escape=`\n# SYNTAX=x",
        "\ufeff# syntax=x",
        "// syntax=x",
        "# hello\n# syntax=x",
    ],
)
def test_other_builders_are_refused(first: str) -> None:
    assert "another builder" in refusal(f"{first}\n{OURS}")


def test_json_is_not_a_dockerfile() -> None:
    assert "not a Dockerfile" in refusal('{"syntax": "x/y"}')


def test_builders_do_not_agree_about_two_backslashes() -> None:
    assert "disagree" in refusal(OURS + "RUN echo \\\\\nADD http://x /y")


def test_the_line_is_named() -> None:
    assert refusal("\n# hello\n" + OURS + "RUN true\n\nADD \\\n  http://x /y").startswith("Line 6 ")


def test_another_escape_character_is_honoured() -> None:
    text = "# escape=`\nFROM littlest-binder/base\nRUN echo `\nADD http://x\n"
    assert check(text) == Plan(pull=False)
    assert "fetch an address" in refusal(text.replace("`\nADD", "\\\nADD"))


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("plain", "plain"),
        ("$A", "1"),
        ("${A}b", "1b"),
        ("'$A'", "$A"),
        ('"$A"', "1"),
        ("\\$A", "$A"),
        ('"\\x"', "\\x"),
        ("${A:-2}", "1"),
        ("${B:-2$A}", "21"),
        ("${E:-2}", "2"),
        ("${A:+3}", "3"),
        ("${E:+3}", ""),
        ("$B", "\0"),
        ("$1x", "\0x"),
        ("$", "\0"),
        ("'open", "open\0"),
    ],
)
def test_words_are_read_as_by_buildkit(word: str, result: str) -> None:
    assert expand(word, {"A": "1", "E": ""}) == result


@given(st.text(alphabet="FROMADDCOPYRUN victim$<>EOF='\"\\`{}:-#/\n\t\r", max_size=200))
def test_any_text_is_allowed_or_refused(text: str) -> None:
    try:
        check(text)
    except DockerfileRefused as refused:
        assert refused.code == "dockerfile-refused"  # noqa: PT017
