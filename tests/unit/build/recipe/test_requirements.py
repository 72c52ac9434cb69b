"""What a requirements file needs, and which installer honours it."""

from __future__ import annotations

import pytest

from tljh_plugin.build.recipe.requirements import Requirements, decode, read_requirements


def read(text: str | bytes, **others: str) -> Requirements:
    content = {"requirements.txt": text.encode() if isinstance(text, str) else text}
    content |= {name.replace("__", "/").replace("_", "."): other.encode() for name, other in others.items()}
    return read_requirements("requirements.txt", content.get)


@pytest.mark.parametrize(
    "text",
    [
        "numpy\npandas>=2,<3\n",
        "numpy==2.0  # why\n# whole line\n\n",
        "pandas[excel]~=2.2; python_version < '3.13'\n",
        "num\\\npy\n",
        "\ufeffnumpy\n",
        "--pre\nnumpy\n",
        "--only-binary :all:\nnumpy\n",
        "",
    ],
)
def test_names_and_versions_are_plain(text: str) -> None:
    assert read(text) == Requirements(files=("requirements.txt",))


def test_included_files_are_followed() -> None:
    found = read(
        "-r more.txt\n-c limits.txt\n--requirement=deep/x.txt\n",
        more_txt="-r more.txt\na\n",
        limits_txt="b<2",
        deep__x_txt="-r y.txt",
        deep__y_txt="c",
    )
    assert found == Requirements(
        files=("requirements.txt", "more.txt", "limits.txt", "deep/x.txt", "deep/y.txt")
    )


@pytest.mark.parametrize(
    "text",
    [
        "-e .",
        "-e.",
        "--editable=./package",
        ".",
        "./package",
        "../package",
        "package/",
        "dist/thing-1.0-py3-none-any.whl",
        "thing.tar.gz",
        "file:///home/jovyan/package",
        "thing @ file:package",
        "-r missing.txt",
        "-r ../outside.txt",
        "-r /etc/passwd",
        "-f ./wheels\nnumpy",
        "-e name",
    ],
)
def test_what_needs_the_repository_is_local(text: str) -> None:
    found = read(text)
    assert found.local
    assert not found.plain


@pytest.mark.parametrize(
    "text",
    [
        "--index-url https://example.org/simple\nnumpy",
        "-i https://example.org/simple",
        "--extra-index-url=https://example.org/simple\nnumpy",
        "--trusted-host example.org\nnumpy",
        "-f https://example.org/wheels\nnumpy",
        "thing @ https://example.org/thing.whl",
        "https://example.org/thing.zip",
        "git+https://example.org/thing.git@main",
        "-e git+https://example.org/thing.git#egg=thing",
        "-r https://example.org/requirements.txt",
        "numpy==${VERSION}",
    ],
)
def test_what_comes_from_elsewhere_is_not_plain_but_needs_no_repository(text: str) -> None:
    found = read(text)
    assert not found.plain
    assert not found.local
    assert not found.only_pip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--use-feature=fast-deps\nnumpy", "--use-feature"),
        ("--prefer-binary\nnumpy", "--prefer-binary"),
        ("numpy --config-settings=x=y", "--config-settings"),
        ("numpy --global-option=x", "--global-option"),
        ("numpy==2004d", "numpy==2004d"),
        ("-f wheels\nnumpy", "folder `wheels`"),
        ("--unbalanced 'x", "only pip"),
        ("# coding: latin-1\nnumpy  # \xe9".encode("latin-1"), "latin-1"),
        (b"numpy # \xe9\n", "not UTF-8"),
    ],
)
def test_what_uv_reads_otherwise_is_left_to_pip(text: str | bytes, words: str) -> None:
    assert words in read(text).only_pip


def test_hashes_are_insisted_on_as_pip_does() -> None:
    hashed = "numpy==2.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n"
    assert read(hashed) == Requirements(files=("requirements.txt",), hashes=True)
    assert read("--require-hashes\nnumpy==2.0").hashes
    assert not read("numpy==2.0").hashes


@pytest.mark.parametrize("system", ["hg", "svn", "bzr"])
def test_version_control_that_the_base_lacks_is_named(system: str) -> None:
    assert f"needs {system}" in read(f"{system}+https://example.org/thing").beyond_base


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_byte_order_marks_are_understood_as_by_pip(encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    assert decode((mark + "numpy").encode(encoding))[0] == "numpy"
