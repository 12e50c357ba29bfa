"""Every format gives the logits of the plain reference back, for each form of network and any number of images."""

import subprocess
import sys
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch

import cscdarts
from cscdarts.export.classifier import Classifier, exported_tensors
from cscdarts.export.formats import FORMATS
from cscdarts.export.writing import TOLERANCE, write_export
from tests.support.cells import CELLS
from tests.support.exports import batch, drawn, pair
from tests.support.models.covering import covering

ROOT = Path(__file__).parents[3]
SWITCHES: dict[str, tuple[Any, ...]] = {
    "cell": tuple(CELLS),
    "size": (32, 96),
    "supernet.identity": ("cell", "edge", "none"),
    "evaluation.split_eval": (True, False),
    "supernet.bypass_reduce": ("max", "factorized"),
    "supernet.identity_proj": ("conv", "pool-pad"),
}
CASES = covering(SWITCHES, [], lambda case: True)


def name_of(case: dict[str, Any]) -> str:
    return "-".join(str(value) for value in case.values())


def form(name: str) -> Any:
    """A format; skips where its packages are not here."""
    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    return FORMATS[name]


def assert_same_logits(found: torch.nn.Module, wanted: torch.nn.Module, channels: int, size: int) -> None:
    for count in (1, 5):
        images = batch(count, channels, size, seed=count)
        with torch.no_grad():
            logits, expected = found(images), wanted(images)
        expected = expected[0] if isinstance(expected, tuple) else expected
        assert logits.shape == expected.shape
        assert logits.dtype == torch.float32
        assert float((logits - expected).abs().max()) <= TOLERANCE * max(1, float(expected.abs().max()))


def test_the_cases_hold_every_pair_of_values() -> None:
    for a, b in combinations(SWITCHES, 2):
        assert set(product(SWITCHES[a], SWITCHES[b])) == {(case[a], case[b]) for case in CASES}


#: Tracing takes seconds a network: of the programs two are quick tests, of all forms the weights are. ONNX is made from
#: what torch.export traces, which has every case.
QUICK = {"safetensors": len(CASES), "torch-export": 2, "onnx": 1}
TRACED_AGAIN = 4
WAYS = [
    pytest.param(name, case, id=f"{name}-{name_of(case)}", marks=[] if place < quick else pytest.mark.slow)
    for name, quick in QUICK.items()
    for place, case in enumerate(CASES[:TRACED_AGAIN] if name == "onnx" else CASES)
]


@pytest.mark.parametrize(("name", "case"), WAYS)
def test_every_format_gives_the_references_logits(name: str, case: dict[str, Any], tmp_path: Path) -> None:
    chosen = form(name)
    reference, classifier = pair(**case)
    path = tmp_path / f"net{chosen.ending}"
    write_export(classifier, chosen, path)
    loaded = cscdarts.load(path)
    assert_same_logits(loaded, reference, 3, case["size"])
    assert loaded.card == classifier.card
    assert not loaded.training


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_network_gives_the_same_bytes_and_no_path_of_this_machine(name: str) -> None:
    chosen = form(name)
    first, second = (chosen.load().write(drawn("nasbench201")) for _ in range(2))
    assert first == second
    for private in (str(ROOT), str(Path(torch.__file__).parent), "site-packages"):
        assert private.encode() not in first


def test_a_program_runs_without_this_package(tmp_path: Path) -> None:
    _, classifier = pair("darts", 32, **{"supernet.identity": "cell", "evaluation.split_eval": True})
    path = tmp_path / "net.pt2"
    write_export(classifier, FORMATS["torch-export"], path)
    images = batch(3, 3, 32)
    torch.save(images, tmp_path / "images.pt")
    script = (
        "import sys, torch; sys.modules['cscdarts'] = None\n"
        f"program = torch.export.load({str(path)!r}).module()\n"
        f"torch.save(program(torch.load({str(tmp_path / 'images.pt')!r})), {str(tmp_path / 'logits.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env={"PATH": ""})
    with torch.no_grad():
        expected = classifier(images)
    assert torch.allclose(torch.load(tmp_path / "logits.pt"), expected, atol=1e-5 * float(expected.abs().max()))


def test_onnx_runs_without_this_package_and_carries_the_card(tmp_path: Path) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    _, classifier = pair("nasbench201")
    path = tmp_path / "net.onnx"
    write_export(classifier, FORMATS["onnx"], path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = batch(2, 3, 32)
    (logits,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = classifier(images)
    assert float((torch.from_numpy(logits) - expected).abs().max()) <= 1e-5 * max(1, float(expected.abs().max()))
    assert session.get_modelmeta().custom_metadata_map["cscdarts"] == classifier.card.text()
    assert session.get_inputs()[0].shape == ["n", 3, 32, 32]


def test_what_safetensors_gives_back_can_be_trained_on(tmp_path: Path) -> None:
    _, classifier = pair("darts")
    write_export(classifier, FORMATS["safetensors"], tmp_path / "net.safetensors")
    loaded = cscdarts.load(tmp_path / "net.safetensors")
    assert isinstance(loaded, Classifier)
    loaded.train()(batch(4, 3, 32)).sum().backward()
    gradients = [parameter.grad for parameter in loaded.parameters() if parameter.grad is not None]
    assert len(gradients) == len(list(loaded.parameters()))
    assert any(bool(gradient.any()) for gradient in gradients)


def test_what_is_saved_is_a_copy(tmp_path: Path) -> None:
    classifier = drawn("nasbench201")
    held = exported_tensors(classifier.network)
    with torch.no_grad():
        for value in classifier.network.state_dict().values():
            value.fill_(7)
    assert all(bool((value != 7).any()) for value in held.values() if value.numel() > 1)


def test_a_program_stays_in_evaluation_mode_and_refuses_images_of_another_form(tmp_path: Path) -> None:
    _, classifier = pair("nasbench201")
    write_export(classifier, FORMATS["torch-export"], tmp_path / "net.pt2")
    loaded = cscdarts.load(tmp_path / "net.pt2")
    images = batch(2, 3, 32)
    assert not loaded.train().training
    with torch.no_grad():
        assert torch.allclose(loaded(images), classifier(images), rtol=1e-5)
    for other in (batch(2, 3, 28), batch(2, 1, 32), images[0], images.double(), images[:0]):
        with pytest.raises(cscdarts.UserError, match=r"\(n, 3, 32, 32\) float32"):
            loaded(other)
