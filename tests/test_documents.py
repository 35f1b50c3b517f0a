"""Documents are executed, and a shown output that differs from the real output fails."""

from pathlib import Path

import pytest

from tests.documents import run_console, run_python, save_if_named, shown_output


@pytest.mark.parametrize(
    "source",
    [
        "print(1.7)  # 1.7",
        "print('a 1.7 b')  # a … b",
        "print('a 1.7 b')\n# a …",
        "print('one two')  # one\n# two",
        "print(\n    'a',\n    'b',\n)  # a b",
        "print(1)\n\n# a comment about what follows\nx = 2",
        "x = 3  # a comment about x\nprint(x)",
        "x = 1\nif x:\n    print(x)  # within a block nothing is compared",
    ],
)
def test_correct_shown_output_passes(source):
    run_python(source, {})


@pytest.mark.parametrize(
    "source",
    [
        "print(1.7)  # 1.8",
        "print('a b')  # a",
        "print('a 1.7 b')\n# a … c",
        "print('one two')  # one\n# three",
        "x = 1\nprint(x)  # 2",
    ],
)
def test_wrong_shown_output_fails(source):
    with pytest.raises(AssertionError, match="shown:"):
        run_python(source, {})


def test_statements_share_their_namespace_and_keep_their_lines():
    namespace: dict = {}
    run_python("x = 1", namespace)
    run_python("def f():\n    return x + 1\nprint(f())  # 2", namespace)
    with pytest.raises(ZeroDivisionError) as caught:
        run_python("y = 1\n1 / 0", namespace, file="README.md", first_line=40)
    assert caught.traceback[-1].lineno == 41, "counted from 0: the 42nd line"


def test_comments_belong_to_the_print_before_them():
    assert shown_output(
        "x = 1  # no\nprint(x)  # one\n# two\ny = 2\nprint(\n    y)\n# three\n"
    ) == {
        2: "one\ntwo",
        5: "three",
    }


def test_a_console_shows_the_output_of_its_commands(tmp_path: Path):
    run_console("$ echo a\na\n$ echo 1.23 b\n… b\n$ echo nothing is shown of this", tmp_path)
    for wrong in ("$ echo a\nb", "$ echo a b\na", "$ exit 3"):
        with pytest.raises(AssertionError, match=r"\$ "):
            run_console(wrong, tmp_path)


def test_a_block_that_begins_with_the_name_of_a_file_is_saved(tmp_path: Path):
    save_if_named("x = 1\n", tmp_path)
    save_if_named("# a comment about mine.py\nx = 1\n", tmp_path)
    save_if_named("# mine.py\nx = 1\n", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
    assert (tmp_path / "mine.py").read_text("utf-8") == "# mine.py\nx = 1\n"
