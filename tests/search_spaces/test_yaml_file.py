"""Files that are no spec, or not the spec that somebody meant: one error each, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.errors import SpecError
from search_spaces.spec import read_spec
from search_spaces.spec.yaml_file import read_mapping


def problem(folder: Path, content: str | bytes) -> SpecError:
    path = folder / "spec.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(SpecError) as caught:
        read_spec(path)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("content", "line", "words", "hint"),
    [
        ("train:\n\tseed: 1\n", 2, "'\\t' that cannot start any token", "YAML allows no tabs"),
        ("train:\n  seed: 1\n  seed: 2\n", 3, "found duplicate key seed", "keep one of the two lines"),
        ("train: {seed: 1}\nmodel: {}\ntrain: {seed: 2}\n", 3, "found duplicate key train", "keep one"),
        ("train: {seed: 1}\n---\ntrain: {seed: 2}\n", 2, "another document", "remove the line with ---"),
        ("\n- a\n", 2, "must hold keys with values, but holds a list", "`train:`"),
        ("abc\n", 1, "must hold keys with values, but holds the text 'abc'", "`train:`"),
        ("train: {seed: 1\n", 2, "is not valid YAML", "check indentation"),
        ('results_dir: "C:\\data"\n', 1, "unknown escape character 'd'", "single quotes"),
        ("train: {seed: ???}\n", 1, "found '?'", "quote the mark"),
        ("train:\n  seed: 1:30\n", 2, "YAML reads 1:30 in base 60", "quote what is meant as a text"),
        ("train:\n  seed: 010\n", 2, "YAML reads 010 in base 8", "leading zeros"),
        (f"train:\n  seed: {'9' * 5000}\n", 2, "holds a number that cannot be read: 99999999999999999999...", "decimal digits"),
        ("train: {seed: 0b_}\n", 1, "holds a number that cannot be read", "decimal digits"),
        ("results_dir: a\n1: 2\n", 2, "a key must be a name, but is '1'", "`train:`"),
        ("results_dir: a\nno: 2\n", 2, "a key must be a name, but is 'no'", "`train:`"),
        ("? [a]\n: 1\n", 1, "a key must be a name, but is a list or a group", "`train:`"),
        ("results_dir: !!python/object/apply:os.system [ls]\n", 1, "has the tag !!python/object/apply:os.system", "without tags"),
        ("train: !!set {a}\n", 1, "has the tag !!set", "without tags"),
        (b"train:\n  seed: 1\nresults_dir: caf\xe9\n", 3, "is not text in UTF-8", "saved as UTF-8"),
        ("train: {seed: 1}\nresults_dir: a\x07\n", 2, "holds U+0007", "plain text in UTF-8"),
        ("train: {seed: 1}\n".encode("utf-16-le"), 1, "holds U+0000", "plain text in UTF-8"),
    ],
)
def test_a_broken_file_is_told_with_its_line(tmp_path: Path, content: str | bytes, line: int, words: str, hint: str) -> None:
    error = problem(tmp_path, content)
    assert error.message.startswith(f"{tmp_path}/spec.yaml:{line}")
    assert words in error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("train: {seed: 3}\n".encode("utf-16"), "is text in UTF-16, not in UTF-8"),
        ("train: &a\n  optim: *a\n", "nested too deeply, or an alias holds itself"),
        (f"results_dir: {'[' * 1500}{']' * 1500}", "nested too deeply"),
    ],
)
def test_a_file_that_has_no_line_to_blame(tmp_path: Path, content: str | bytes, words: str) -> None:
    assert words in problem(tmp_path, content).message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("results_dir: no\n", "results_dir must be a text, but is False (spec.yaml:1)"),
        ("model: {encoder: off}\n", "model.encoder must be one of vitt, vits, vitb, vitl, vitg, but is False (spec.yaml:1)"),
        ("train:\n  optim:\n    lr: '0.1'\n", "train.optim.lr must be a number, but is '0.1' (spec.yaml:3)"),
        ("train: {num_epochs: 1.5}\n", "train.num_epochs must be a whole number, but is 1.5 (spec.yaml:1)"),
        ("train: {seed: 99999999999999999999}\n", "train.seed must be a whole number, but is 99999999999999999999 (spec.yaml:1)"),
        ("train: {optim: {lr: .nan}}\n", "train.optim.lr must be a number, but is nan (spec.yaml:1)"),
        ("train: {clip_grad_norm: .inf}\n", "train.clip_grad_norm must be a number, but is inf (spec.yaml:1)"),
        ("train: {seed:1}\n", "unknown key train.seed:1 (spec.yaml:1)"),
        ("base: &b {seed: 1}\ntrain: *b\n", "unknown key base (spec.yaml:1)"),
        (
            "dataset:\n  train_dataset: &a\n    wrokers: 1\n  val_dataset:\n    <<: *a\n",
            "unknown key dataset.train_dataset.wrokers (spec.yaml:3)",
        ),
    ],
)
def test_what_yaml_makes_of_a_value_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        read_spec(Path("spec.yaml"))
    assert caught.value.message == words


def test_numbers_switches_marks_and_merges_are_read_as_meant(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    text = (
        "train: {num_epochs: 1.0, seed: 1_000, is_dry_run: yes, pretrained_model_path: None, results_dir: 2024-01-01, optim: {lr: 1e-4}}\n"
        "dataset:\n  train_dataset: &a {workers: 2, batch_size: 4}\n  val_dataset:\n    <<: *a\n    batch_size: 1\n"
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    spec = read_spec(path).spec
    train, dataset = spec.train, spec.dataset
    assert (train.num_epochs, train.seed, train.is_dry_run, train.optim.lr) == (1, 1000, True, 1e-4)
    assert (train.pretrained_model_path, train.results_dir) == (None, "2024-01-01")
    assert (dataset.val_dataset.workers, dataset.val_dataset.batch_size, dataset.train_dataset.batch_size) == (2, 1, 4)


def test_what_a_merge_brings_stands_where_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("a: &x\n  one: 1\n  two: 2\nb:\n  <<: [*x]\n  two: 3\n", encoding="utf-8")
    places = read_mapping(path)[1]
    assert [places[name].rpartition(":")[2] for name in ("a.one", "b.one", "b.two")] == ["2", "2", "6"]


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "---\n", "\ufeff"])
def test_a_file_without_content_says_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(content, encoding="utf-8")
    assert read_spec(path).given == frozenset()


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_spec(tmp_path)
