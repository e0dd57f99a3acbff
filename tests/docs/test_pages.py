"""What README, docs/ and examples/ show: every command parses, every spec trains, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer

from automl import cli, depth_net
from automl.actions import train_action
from trials.data.decoders import read_pfm, write_png
from trials.data.sample import write_samples

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
COMMANDS = {
    name: typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, app in {"automl": cli.app, "depth_net": depth_net.app}.items()
}
# only what makes a published size small enough for a test; no key that an example is about
SMALL = (
    "model.encoder=vitt",
    "model.hidden_dims=[16,16,16]",
    "model.train_iters=1",
    "model.valid_iters=1",
    "dataset.train_dataset.augmentation.crop_size=[64,96]",
    "dataset.val_dataset.augmentation.crop_size=[64,96]",
    "dataset.val_dataset.augmentation.evaluation=center_crop",
    "train.is_dry_run=true",
)


def fenced(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def commands(page: Path) -> Iterator[list[str]]:
    """Command lines of our programs, in blocks and between backticks; those with a gap (`...`, `<name>`) are prose."""
    lines = [line for language, text in fenced(page) if language in {"", "bash", "sh"} for line in text.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`((?:automl|depth_net) [^`\n]+)`", page.read_text(encoding="utf-8"))
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True) if line.count("'") % 2 == 0 else []
        if words and Path(words[0]).name in COMMANDS and not re.search(r"\.\.\.|<|\||…|\[", line):
            yield [Path(words[0]).name, *words[1:]]


def parsed(words: list[str]) -> str | None:
    """None when the command line parses, else what the parser says."""
    numbers = {"N": "3", "S": "3"}
    command = COMMANDS[words[0]].get(words[1])
    if command is None:
        return f"no command {words[1]}"
    if len(words) == 2:  # a command's name in a sentence
        return None
    try:
        command.make_context(words[1], [numbers.get(word, word) for word in words[2:]])
    except typer.Exit:  # --help
        return None
    except typer.TyperException as error:
        return str(error)
    return None


def kitti_pairs(folder: Path) -> list[str]:
    """Lines of sample pairs in KITTI's encoding: disparity x 256 in a 16-bit PNG."""
    write_samples(folder, scenes=4, seed=1, height=96, width=128, max_disparity=48)
    lines = []
    for scene in sorted(folder.glob("scene_*")):
        write_png(scene / "kitti.png", np.round(read_pfm(scene / "disparity.pfm") * 256).astype(np.uint16))
        lines.append(" ".join(str(scene / name) for name in ("left.png", "right.png", "kitti.png")))
    return lines


def specs() -> list[tuple[str, str]]:
    """Page and text of each spec that names training data."""
    return [
        (page.relative_to(ROOT).as_posix(), text)
        for page in PAGES
        for language, text in fenced(page)
        if language == "yaml" and "train_dataset" in text
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_parse(page: Path) -> None:
    wrong = {" ".join(words): said for words in commands(page) if (said := parsed(words)) is not None}
    assert wrong == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_anchors_are_headings(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if link[1] not in headings(page.parent / link[0] if link[0] else page)] == []


def test_some_commands_are_shown() -> None:
    assert sum(1 for page in PAGES for _ in commands(page)) > 20


@pytest.mark.parametrize(("page", "text"), specs(), ids=[page for page, _ in specs()])
def test_specs_train(page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = set(re.findall(r"data_file: *([\w./-]+)", text))
    pairs = kitti_pairs(tmp_path / "scenes")
    for name in lists:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("\n".join(pairs * 2), encoding="utf-8")
    spec = tmp_path / "spec.yaml"
    spec.write_text(text.replace("/data/kitti2015", str(tmp_path)), encoding="utf-8")
    backbone = "model.stereo_backbone"
    weights = [f"{backbone}.depth_anything_v2_pretrained_path=null", f"{backbone}.edgenext_pretrained_path=null"]
    sizes = ["model.max_disparity=96", "dataset.max_disparity=96"]
    monkeypatch.chdir(tmp_path)
    assert train_action(spec, ["model.model_type=FoundationStereo", "results_dir=results", *sizes, *SMALL, *weights]) == 0
