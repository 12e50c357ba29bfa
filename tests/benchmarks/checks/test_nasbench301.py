"""NAS-Bench-301 surrogates: the input's encoding, models within bounds, predictions that are said to be such."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ablations.cli import main
from ablations.run.stages import stages_of
from benchmarks.checks.run import check, check_run
from benchmarks.official import onnx_bounds
from benchmarks.official.nasbench301 import CHOICES, KEY, PREFIX, configuration, open_surrogate
from benchmarks.sources import open_table, require_benchmark
from cscdarts import UserError, parse_genotype, with_values
from cscdarts.records.run_folder import RunFolder, append_line, read_json, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.spaces import DARTS, random_genotype
from cscdarts.spaces.known import KNOWN_GENOTYPES
from cscdarts.spaces.reading.read import read_text

CELL = KNOWN_GENOTYPES["DARTS_V2"]
OTHERS = {"CreateImageDataLoader:batch_size": 0.5, "OptimizerSelector:optimizer": 0.0}
NAMES = [*OTHERS, *(f"{PREFIX}{name}" for name in CHOICES)]
ONE_HOT = [f"{name}={choice}" for name, choices in CHOICES.items() for choice in choices]


def told(features: Sequence[str] = NAMES, **other: Any) -> dict[str, Any]:
    content = {"encoding": "configspace-array", "features": list(features), "predicts": "cifar10_valid_acc_pct"}
    return content | {"constants": {name: OTHERS[name] for name in features if name in OTHERS}} | other


def linear(weights: Any, bias: float = 90.0) -> onnx.GraphProto:
    """y = x w + b, as an exported fully connected layer."""
    matrix = np.asarray(weights, dtype=np.float32).reshape(-1, 1)
    return graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        len(matrix),
        [numpy_helper.from_array(matrix, "w"), numpy_helper.from_array(np.array([bias], np.float32), "b")],
    )


def graph(nodes: Sequence[Any], width: int, tensors: Sequence[Any] = ()) -> onnx.GraphProto:
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", width), ("y", 1))
    )
    return helper.make_graph(list(nodes), "surrogate", [x], [y], list(tensors))


def tree(column: int, at: float, low: float, high: float) -> onnx.GraphProto:
    """A tree of one decision, as converters of XGBoost and LightGBM write it."""
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2], nodes_featureids=[column, 0, 0], nodes_values=[at, 0.0, 0.0],
        nodes_modes=["BRANCH_LT", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[low, high],
    )  # fmt: skip
    return graph([node], len(NAMES))


def save(path: Path, made: onnx.GraphProto, content: Any = None, **parts: Any) -> Path:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=9, **parts)
    text = content if isinstance(content, str) else json.dumps(told() if content is None else content)
    model.metadata_props.append(onnx.StringStringEntryProto(key=KEY, value=text))
    path.write_bytes(model.SerializeToString())
    return path


def weights(**of: float) -> np.ndarray[Any, Any]:
    found = np.zeros(len(NAMES))
    for name, value in of.items():
        found[NAMES.index(PREFIX + name)] = value
    return found


# --- the encoding --------------------------------------------------------------------------------


def test_a_cells_configuration_is_what_the_benchmark_writes() -> None:
    """By hand, after automl/nasbench301: edges 0, 1 enter node 2, 2 to 4 node 3, 5 to 8 node 4, 9 to 13 node 5."""
    found = configuration(CELL)
    normal = {name: value for name, value in found.items() if "normal" in name}
    assert normal == {
        "edge_normal_0": "sep_conv_3x3", "edge_normal_1": "sep_conv_3x3",
        "inputs_node_normal_3": "0_1", "edge_normal_2": "sep_conv_3x3", "edge_normal_3": "sep_conv_3x3",
        "inputs_node_normal_4": "0_1", "edge_normal_5": "skip_connect", "edge_normal_6": "sep_conv_3x3",
        "inputs_node_normal_5": "0_2", "edge_normal_9": "skip_connect", "edge_normal_11": "dil_conv_3x3",
    }  # fmt: skip
    assert CHOICES["inputs_node_reduce_5"] == ("0_1", "0_2", "0_3", "0_4", "1_2", "1_3", "1_4", "2_3", "2_4", "3_4")
    assert CHOICES["edge_reduce_13"][:3] == ("max_pool_3x3", "avg_pool_3x3", "skip_connect")
    assert len(CHOICES) == 34


def test_a_configuration_reads_back_as_the_cell() -> None:
    for seed in range(20):
        cell = random_genotype("darts", np.random.default_rng(seed))
        text = json.dumps({f"{PREFIX}{name}": value for name, value in configuration(cell).items()})
        read = read_text(text).genotype
        for kind in DARTS.cell_kinds:
            assert sorted(read.edges(kind)) == sorted(cell.edges(kind))


def test_columns_hold_numbers_of_choices_in_the_order_of_the_file(tmp_path: Path) -> None:
    def of(**its: float) -> float:
        path = save(tmp_path / "m.onnx", linear(weights(**its), 50.0))
        return float(open_surrogate(path).predict([CELL])[0][0])

    assert of(edge_normal_0=1) == pytest.approx(50 + 3)  # sep_conv_3x3
    assert of(edge_normal_4=1) == pytest.approx(50 - 1)  # not kept
    assert of(inputs_node_normal_5=1) == pytest.approx(50 + 1)  # 0_2
    assert of(inputs_node_normal_3=1) == pytest.approx(50)
    constant = np.zeros(len(NAMES))
    constant[0] = 2.0
    assert float(open_surrogate(save(tmp_path / "c.onnx", linear(constant))).predict([CELL])[0][0]) == pytest.approx(91)


def test_a_one_hot_encoding_counts_what_is_there(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", linear(np.ones(len(ONE_HOT)), 0.0), told(ONE_HOT))
    assert float(open_surrogate(path).predict([CELL])[0][0]) == 16 + 6  # edges and pairs of inputs


def test_trees_split_where_they_say_and_a_folder_is_their_mean(tmp_path: Path) -> None:
    column = NAMES.index(f"{PREFIX}edge_normal_0")
    for number, high in enumerate((94.0, 95.0)):
        save(tmp_path / f"{number}.onnx", tree(column, 2.5, 90.0, high))
    ensemble = open_surrogate(tmp_path)
    pooled = parse_genotype(str(CELL).replace("('sep_conv_3x3', 0)", "('max_pool_3x3', 0)", 1))
    mean, sd = ensemble.predict([CELL, pooled])
    assert mean.tolist() == pytest.approx([94.5, 90.0])
    assert sd is not None
    assert sd.tolist() == pytest.approx([0.5**0.5, 0.0])
    assert ensemble.provenance["members"] == 2


@pytest.mark.parametrize("name", ["FairDARTS_a", "ENAS"])
def test_cells_that_the_benchmark_has_no_name_for_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"a normal cell w.*NAS-Bench-301 has no other cells"):
        configuration(KNOWN_GENOTYPES[name])


# --- bounds --------------------------------------------------------------------------------------


def looped() -> onnx.GraphProto:
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "body", [], [])
    return graph([helper.make_node("Loop", ["x"], ["y"], body=body)], 36)


def hostile(node: Any, *tensors: Any) -> Callable[[], onnx.GraphProto]:
    return lambda: graph([node], 36, tensors)


MATRIX = numpy_helper.from_array(np.ones((36, 36), np.float32), "w")
EXTERNAL = TensorProto(name="w", data_type=1, dims=[36, 1], data_location=TensorProto.EXTERNAL)
EXTERNAL.external_data.append(onnx.StringStringEntryProto(key="location", value="/etc/passwd"))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (looped, "operator Loop"),
        (hostile(helper.make_node("Mine", ["x"], ["y"], domain="evil")), r"operator evil\.Mine"),
        (hostile(helper.make_node("Expand", ["x", "w"], ["y"]), MATRIX), "operator Expand"),
        (hostile(helper.make_node("MatMul", ["x", "x"], ["y"])), "multiplies two maps"),
        (hostile(helper.make_node("Add", ["x", "w"], ["y"]), MATRIX), "element by element"),
        (hostile(helper.make_node("Gemm", ["x", "w"], ["y"]), EXTERNAL), "in another file"),
        (
            hostile(helper.make_node("Add", ["x", "w"], ["y"]), numpy_helper.from_array(np.ones((2, 1, 1)), "w")),
            "3 dimensions",
        ),
        (lambda: graph([], 36), "0 nodes"),
    ],
    ids=["loop", "custom", "expand", "product of maps", "outer sum", "external", "cube", "empty"],
)
def test_models_beyond_the_bounds_are_not_run(made: Callable[[], onnx.GraphProto], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        open_surrogate(save(tmp_path / "m.onnx", made()))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        (told(encoding="graph"), "another encoding"),
        (told(predicts="runtime"), "another encoding"),
        (told(constants={**OTHERS, "x": float("nan")}), "another encoding"),
        (told(NAMES[:-1]), "no column inputs_node_reduce_5"),
        (told([*NAMES, NAMES[-1]]), "column twice"),
        (told([*NAMES, "edge_normal_99"]), "column edge_normal_99 is unknown"),
        (told([*NAMES, "edge_normal_0=none"]), "edge_normal_0=none is unknown"),
        (told([*NAMES, "edge_normal_0=skip_connect"]), "reads 36 columns"),
    ],
    ids=str,
)
def test_metadata_that_does_not_tell_the_input_is_refused(content: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        open_surrogate(save(tmp_path / "m.onnx", linear(weights()), content))


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "m.onnx", linear(weights(), 123.0))
    with pytest.raises(UserError, match="predicts 123 percent"):
        open_surrogate(path).predict([CELL])
    bare = onnx.load(path)
    del bare.metadata_props[:]
    (tmp_path / "bare.onnx").write_bytes(bare.SerializeToString())
    with pytest.raises(UserError, match=f"no metadata {KEY}"):
        open_surrogate(tmp_path / "bare.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="no ONNX model"):
        open_surrogate(tmp_path / "junk.onnx")
    (tmp_path / "none").mkdir()
    for missing in (tmp_path / "none", tmp_path / "gone.onnx"):
        with pytest.raises(UserError, match="Name an"):
            open_surrogate(missing)
    monkeypatch.setattr(onnx_bounds, "MOST_BYTES", 10)
    with pytest.raises(UserError, match="at most 10 bytes"):
        open_surrogate(path)


# --- checks --------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> str:
    return f"nb301:{save(tmp_path / 'xgb.onnx', linear(weights(edge_normal_0=1)))}"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `cscdarts check` prints."""
    with pytest.raises(SystemExit) as end:
        main(["check", *arguments])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_a_cell_is_predicted_not_measured(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, str(CELL), "--benchmark", model)
    assert "cifar10 validation accuracy 93.00 %: predicted, not measured" in out
    assert "test" not in out.replace(model.removeprefix("nb301:"), "")
    found = json.loads(said(capsys, "DARTS_V2", "--benchmark", model, "--json"))
    assert found["datasets"] == {}
    assert found["predicted"]["cifar10"]["valid_acc"] == pytest.approx(93)
    assert len(found["benchmark"]["sha256"]) == 64


def test_what_it_does_not_predict_is_refused(model: str) -> None:
    cell = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    with pytest.raises(UserError, match="predicts cells of the DARTS space"):
        check(cell, model)
    with pytest.raises(UserError, match="predicts cells of the DARTS space only"):
        open_table(model)
    for values in ({"supernet.space": "nasbench201"}, {"supernet.space": "darts_s4"}):
        with pytest.raises(UserError, match=r"runtime\.benchmark"):
            require_benchmark(model, with_values(RunConfig(), values).supernet)
    require_benchmark(model, with_values(RunConfig(), {"supernet.space": "darts_s1"}).supernet)


def test_a_run_of_the_darts_space_has_its_check(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = with_values(RunConfig(), {"supernet.space": "darts", "runtime.benchmark": model})
    assert "check" in stages_of(config)
    assert "check" not in stages_of(with_values(config, {"runtime.benchmark": "embedded"}))
    folder = RunFolder(tmp_path / "run")
    folder.create(config)
    write_json(folder.file("genotype.json"), {"text": str(CELL)})
    for epoch, strong in enumerate((DARTS.ops.index("max_pool_3x3"), DARTS.ops.index("dil_conv_5x5"))):
        rows = np.zeros((14, 8))
        rows[:, strong] = 3.0
        append_line(
            folder.file("alphas.jsonl"), {"epoch": epoch, "alpha": dict.fromkeys(DARTS.cell_kinds, rows.tolist())}
        )
    found = check_run(folder, model)
    assert read_json(folder.file("check.json")) == found
    assert [point["predicted_valid_acc"] for point in found["trajectory"]] == pytest.approx([90.0, 96.0])
    out = said(capsys, str(folder.path), "--benchmark", model)
    assert "by epoch, predicted: 1: 90.00, 2: 96.00" in out
