"""Reading: files, encodings, formats, and the tree that they become."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from torc_supervise.workflow import Loaded, SpecError, load
from torc_supervise.workflow.json_nodes import parse_json, parse_json5
from torc_supervise.workflow.nodes import SourceSyntaxError, to_plain
from torc_supervise.workflow.yaml_nodes import parse_yaml

YAML = "name: w\njobs:\n  - {name: a, command: x}\n"
JSON = '{"name": "w", "jobs": [{"name": "a", "command": "x"}]}'
JSON5 = "// a comment\n{name: 'w', jobs: [{name: 'a', command: 'x',},],}"


def from_bytes(raw: bytes) -> Loaded:
    return load("-", user="u", stdin=io.BytesIO(raw))


def lines_of(raw: bytes) -> list[str]:
    with pytest.raises(SpecError) as caught:
        from_bytes(raw)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.yaml", YAML), ("w.yml", YAML), ("w.YAML", YAML), ("w.json", JSON), ("w.json5", JSON5),
        ("w.yaml", JSON), ("w.json5", JSON), ("w", YAML), ("w", JSON), ("w.txt", JSON5), ("w.yaml", "\ufeff" + YAML),
    ],
)  # fmt: skip
def test_formats_go_by_extension_then_by_content(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    workflow = load(path, user="ann").workflow
    assert [job.name for job in workflow.jobs] == ["a"]
    assert (workflow.user, workflow.spec_path) == ("ann", str(path))


@pytest.mark.parametrize("text", [YAML, JSON, JSON5])
def test_stdin_goes_by_content(text: str) -> None:
    workflow = from_bytes(text.encode()).workflow
    assert workflow.spec_path is None
    assert [job.command for job in workflow.jobs] == ["x"]


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"", "<stdin>: the file is empty; a workflow needs at least 'name' and 'jobs'"),
        (b" \n\n", "<stdin>: the file is empty; a workflow needs at least 'name' and 'jobs'"),
        (b"\xff\xfen\x00", "<stdin>: the file is UTF-16 or UTF-32 text; save it as UTF-8"),
        (b"name: w\njobs: \xe9\n", "<stdin>:2:7: byte 15 (0xe9) is not UTF-8; save the file as UTF-8 text"),
        (
            b"\x7fELF\x02\x00\x00",
            "<stdin>:1:5: the control character 0x02 has no place in a text file; is it a binary file?",
        ),
        (b"[1]", "<stdin>:1:1: expected a map with 'name' and 'jobs' at the top, got a list"),
        (b"hello", "<stdin>:1:1: expected a map with 'name' and 'jobs' at the top, got the text 'hello'"),
        (b"# nothing\n", "<stdin>:1:1: expected a map with 'name' and 'jobs' at the top, got nothing (null)"),
        (b"{name: 'w', jobs: [1}", "<stdin>:1:21: read as JSON5: expected ',' or ']', got '}'"),
        (
            b"name: w\njobs: []\n---\nname: v\n",
            "<stdin>:3:1: a second YAML document starts here; keep one workflow per file, without '---' in between",
        ),
        (
            b"a: !!python/name:os.system x",
            "<stdin>:1:4: read as YAML: the tag '!!python/name:os.system' is not supported here; remove it",
        ),
        (b"a: &x [*x]", "<stdin>:1:8: read as YAML: the alias '*x' stands for a value that contains itself"),
        (b"a: *x", "<stdin>:1:4: read as YAML: the alias '*x' has no anchor before it"),
        (
            b"1: a",
            "<stdin>:1:1: read as YAML: expected text as a key, got the whole number 1; put it in quotes",
        ),
        (b"? [a]\n: b", "<stdin>:1:3: read as YAML: expected a key, got a list"),
        (b"a: {<<: 1}", "<stdin>:1:5: read as YAML: '<<' takes a map, got the whole number 1"),
        (
            b"a: b: c",
            "<stdin>:1:5: not valid YAML: mapping values are not allowed here; "
            "a text with ': ' in it needs quotes; or check the indentation",
        ),
    ],
)
def test_unusable_files_get_one_clear_error(raw: bytes, line: str) -> None:
    assert lines_of(raw) == [line]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("w", "name: w\njobs:\n  - name: a\n   command: x\n", "4:4: not valid YAML: "),
        ("w.txt", "jobs: {name: 'w'\n", "2:1: not valid YAML: "),
        ("w", "// mine\n{name: 'w', jobs: [}", "2:20: read as JSON5: expected a value, got '}'"),
        ("w", "/* mine */ [1,, 2]", "1:15: read as JSON5: expected a value, got ','"),
        ("w", "{name: my workflow}", "1:8: read as JSON5: expected a value, got 'm'"),
        ("w.yaml", "a: *x", "1:4: the alias '*x' has no anchor before it"),
        ("w.json5", "{a: }", "1:5: expected a value, got '}'"),
        ("w", "// " * 2000, "1:1: expected a map"),
        ("w", "/*" * 2000, "1:1: expected a map"),
    ],
)
def test_a_mistake_is_one_of_the_format_that_the_text_looks_like(
    tmp_path: Path, name: str, text: str, line: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load(path, user="u")
    assert str(caught.value).startswith(f"{path}:{line}")


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    kdl = tmp_path / "w.kdl"
    kdl.write_text("name w")
    expected = {
        tmp_path / "none.yaml": "there is no such file; check the path",
        tmp_path: "is a directory",
        Path("a\0b"): "is not a file name",
        tmp_path / ("x" * 300): "cannot be read",
        kdl: "KDL is not supported; write the workflow as YAML, JSON or JSON5",
    }
    for path, words in expected.items():
        with pytest.raises(SpecError) as caught:
            load(path, user="u")
        assert str(caught.value).startswith(f"{path}: {words}")
        assert len(caught.value.problems) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(YAML)
    path.chmod(0)
    with pytest.raises(SpecError, match="you may not read the file"):
        load(path, user="u")


@pytest.mark.parametrize(
    "text", ["[" * 5000, "{a: " * 5000, "- " * 5000 + "x", "a: " + "[" * 5000 + "]" * 5000]
)
def test_deep_nesting_is_an_error(text: str) -> None:
    (line,) = lines_of(text.encode())
    assert "nested deeper than 100 levels" in line


def test_deep_nesting_through_aliases_is_an_error() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200))
    assert "nested deeper than 100 levels" in lines_of(text.encode())[0]


def test_alias_bomb_is_refused_without_expanding_it() -> None:
    text = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    assert "stand for more than 1,000,000 values" in lines_of(text.encode())[0]


def test_anchors_aliases_and_merge_keys_work() -> None:
    text = "base: &b {x: 1, y: 2}\nlist: [*b, &s text, *s]\nmerged: {y: 3, <<: *b}\nmany: {<<: [{x: 0}, *b], z: 1}\n"
    assert to_plain(parse_yaml(text)) == {
        "base": {"x": 1, "y": 2},
        "list": [{"x": 1, "y": 2}, "text", "text"],
        "merged": {"x": 1, "y": 3},
        "many": {"x": 0, "y": 2, "z": 1},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:4", "1:4"), ("4:00:00", "4:00:00"), ("on", "on"), ("yes", "yes"), ("No", "No"), ("0o17", 15), ("017", 17),
        ("0x1F", 31), ("1_000", "1_000"), ("1e3", 1000.0), (".5", 0.5), ("~", None), ("", None), ("True", True),
        ("2024-01-01", "2024-01-01"), ("'5'", "5"), ("!!str 5", "5"), ("!!int 5", 5), ("=", "="), ("<<", "<<"),
    ],
)  # fmt: skip
def test_yaml_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert to_plain(parse_yaml(f"a: {text}")) == {"a": value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x10", 16), ("-0x10", -16), ("+1", 1), (".5", 0.5), ("5.", 5.0), ("-Infinity", float("-inf")), ("1e2", 100.0),
        ("'a\\\nb'", "ab"), ("'\\x41\\v\\'\"'", "A\v'\""), ("[1,2,]", [1, 2]),
        ("{$a: 1, _b: 2, 'c d': 3,}", {"$a": 1, "_b": 2, "c d": 3}),
        ("/* c */ 1 // d", 1), ("'\\ud83d\\ude00'", "\U0001f600"),
    ],
)  # fmt: skip
def test_json5(text: str, value: object) -> None:
    assert to_plain(parse_json5(text)) == value


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ('{"a": 1,}', 1, 9, "another value after ','"),
        ("{'a': 1}", 1, 2, "a key in quotes"),
        ("{a: 1}", 1, 2, "a key in quotes"),
        ("// c\n{}", 1, 1, "a value"),
        ('{"a":\n 01}', 2, 2, "not a number"),
        ("[+1]", 1, 2, "not a number"),
        ("[NaN]", 1, 2, "not a number"),
        ('["a\tb"]', 1, 4, "control character"),
        ('["abc', 1, 2, "no closing quote"),
        ('["\\x41"]', 1, 3, "no escape"),
        ('["\\u12"]', 1, 3, "hexadecimal"),
        ('["\\ud800"]', 1, 2, "surrogate"),
        ("{} {}", 1, 4, "end of the file"),
        ("tru", 1, 1, "a value"),
        ("[" + "9" * 500 + "]", 1, 2, "not a number"),
    ],
)
def test_strict_json_says_where_it_breaks(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(SourceSyntaxError) as caught:
        parse_json(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert words in caught.value.message


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_json_reads_what_the_standard_library_writes(value: object) -> None:
    import json

    for text in (json.dumps(value, allow_nan=True), json.dumps(value, ensure_ascii=False, indent=1)):
        assert to_plain(parse_json5(text)) == value
        if "Infinity" not in text:
            assert to_plain(parse_json(text)) == value


PIECES = st.sampled_from(
    [
        *"{}[]:,&*!|>'\"%@`#-?\\ \n\t\r0123456789abxuU.~<=$", "name", "jobs", "command", "parameters", "<<: ", "&a ",
        "*a ", "- ", ": ", "---\n", "...\n", "%YAML 1.1\n", "%TAG ! x\n", "!!int ", "\u2028", "\x85", "\ufeff",
        "\U0001f600", "'{i}'",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.lists(PIECES, max_size=60).map(lambda parts: "".join(parts).encode()))
@example(b'a: "\\U99999999"')
@example(b'a: "\\ud800"')
@example(b"%YAML 9.9\n--- a")
@example(b"a: !<tag:yaml.org,2002:map> [x]")
def test_no_bytes_raise_anything_but_spec_error(raw: bytes) -> None:
    with contextlib.suppress(SpecError):
        from_bytes(raw)
