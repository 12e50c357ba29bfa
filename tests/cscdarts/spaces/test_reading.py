"""Forms of one cell as public repositories, notebooks, logs and papers print it, and what is refused, in its words."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from cscdarts.errors import UserError
from cscdarts.spaces import CellGenotype, DartsGenotype
from cscdarts.spaces.known import KNOWN_GENOTYPES
from cscdarts.spaces.reading.read import read_text

CELL = KNOWN_GENOTYPES["PDARTS"]
TEXT = str(CELL)
OTHER = str(KNOWN_GENOTYPES["DARTS_V1"])
CONCAT = "normal_concat=range(2, 6)"


def nested(genes: tuple[tuple[str, int], ...]) -> list[list[tuple[str, int]]]:
    return [list(genes[place : place + 2]) for place in range(0, len(genes), 2)]


def triples(genes: tuple[tuple[str, int], ...], target_first: bool) -> list[tuple[str, int, int]]:
    numbered = [(op, 2 + place // 2, source) for place, (op, source) in enumerate(genes)]
    return numbered if target_first else [(op, source, target) for op, target, source in numbered]


def call(normal: object, reduce: object, name: str = "Genotype", concat: object = range(2, 6), more: str = "") -> str:
    return f"{name}(normal={normal}, normal_concat={concat}, reduce={reduce}, reduce_concat={concat}{more})"


def weighted(genes: Iterable[tuple[str, int]]) -> list[tuple[str, int, float]]:
    return [(op, source, 0.125) for op, source in genes]


def fields(concat: object = (2, 3, 4, 5)) -> dict[str, object]:
    return {"normal": CELL.normal, "normal_concat": concat, "reduce": CELL.reduce, "reduce_concat": concat}


def wrapped(word: str) -> str:
    """Each source in a call, as numpy 2 and torch print it."""
    genes = [
        ", ".join(f"('{op}', {word.replace('N', str(source))})" for op, source in kind)
        for kind in (CELL.normal, CELL.reduce)
    ]
    return call(f"[{genes[0]}]", f"[{genes[1]}]")


def pretty() -> str:
    """As AutoDL-Projects writes it by hand: pairs of pairs, comments, further fields."""
    kinds = []
    for genes in (CELL.normal, CELL.reduce):
        pairs = nested(genes)
        kinds.append("[\n" + "".join(f"    ({a}, {b}),  # step {i}\n" for i, (a, b) in enumerate(pairs, 1)) + "  ]")
    return (
        f"PDARTS = Genotype(\n  normal={kinds[0]},\n  normal_concat=[2, 3, 4, 5],\n  reduce={kinds[1]},\n"
        "  reduce_concat=[2, 3, 4, 5],\n  connectN=None, connects=None,\n)\n"
    )


def nasbench301() -> str:
    config: dict[str, object] = {
        "NetworkSelectorDatasetInfo:darts:init_channels": 36,
        "OptimizerSelector:sgd:momentum": 0.9,
    }
    rows = [(source, target) for target in range(2, 6) for source in range(target)]
    for kind in ("normal", "reduce"):
        genes = CELL.genes(kind)
        for node in range(4):
            pair = sorted(genes[2 * node : 2 * node + 2], key=lambda gene: gene[1])
            for op, source in pair:
                row = rows.index((source, node + 2))
                config[f"NetworkSelectorDatasetInfo:darts:edge_{kind}_{row}"] = op
            if node:
                inputs = "_".join(str(source) for _, source in pair)
                config[f"NetworkSelectorDatasetInfo:darts:inputs_node_{kind}_{node + 2}"] = inputs
    return json.dumps({"optimized_hyperparamater_config": config}, indent=1)


def nni(listed: bool) -> str:
    arch: dict[str, object] = {}
    for kind in ("normal", "reduce"):
        for place, (op, source) in enumerate(CELL.genes(kind)):
            arch[f"{kind}/op_{2 + place // 2}_{place % 2}"] = op
            arch[f"{kind}/input_{2 + place // 2}_{place % 2}"] = [source] if listed else source
    return str(arch)


def nni_switches(numbers: bool) -> str:
    order = [
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ]
    arch: dict[str, object] = {}
    for kind in ("normal", "reduce"):
        for node in range(2, 6):
            pair = {source: op for op, source in CELL.genes(kind)[2 * node - 4 : 2 * node - 2]}
            for source in range(node):
                op = pair.get(source)
                short = op.replace("_3x3", "").replace("_", "") if op and "pool" in op else (op or "").replace("_", "")
                arch[f"{kind}_n{node}_p{source}"] = [] if op is None else order.index(op) if numbers else short
            arch[f"{kind}_n{node}_switch"] = [f"{kind}_n{node}_p{source}" for source in sorted(pair)]
    return json.dumps(arch, indent=2)


def notebook() -> str:
    cells = [
        {
            "cell_type": "code",
            "source": ["print(model.genotype())"],
            "outputs": [{"output_type": "stream", "text": [OTHER, "\n"]}],
        },
        {"cell_type": "markdown", "source": [f"The last cell:\n\n```\n{TEXT}\n```\n"]},
        {"cell_type": "code", "source": "net = Network(36, genotype)", "outputs": [{"data": {"text/plain": ["12"]}}]},
    ]
    return json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}, indent=1)


YAML_BLOCK = (
    "arch:\n  normal:\n"
    + "".join(f"  - [{op}, {source}]\n" for op, source in CELL.normal)
    + "  normal_concat: [2, 3, 4, 5]\n  reduce:\n"
    + "".join(f"  - - {op}\n    - {source}\n" for op, source in CELL.reduce)
    + "  reduce_concat: range(2, 6)\n"
)
LOG = (
    f"2019-06-27 01:25:46,001 gpu device = 0\n06/27 01:25:46 PM epoch 48 lr 1.2e-03\n06/27 01:25:46 PM genotype = {OTHER}\n"
    f"06/27 01:39:02 PM epoch 49 lr 1.0e-03\n06/27 01:39:02 PM genotype = {TEXT}\n06/27 01:40:00 PM train_acc 98.140000\n"
)

FORMS = {
    "our text": TEXT,
    "a name": "PDARTS",
    "a name in another spelling": "p-darts",
    "assigned": f"MY_ARCH = {TEXT}",
    "assigned twice": f"Q1 = genotype = {TEXT}",
    "of a module": f"genotypes.{TEXT}",
    "a log line": f"06/27 01:25:46 PM genotype = {TEXT}",
    "a log line of the logging module": f"INFO:root:Genotype search: {TEXT}",
    "a whole log": LOG,
    "on the command line of a script": f'python run.py --darts_gene "{TEXT}" --n_worker 4',
    "numpy 2": wrapped("np.int64(N)"),
    "numpy, full name": wrapped("numpy.int32(N)"),
    "torch": wrapped("tensor(N)"),
    "torch on a device": wrapped("tensor(N, device='cuda:0')"),
    "torch with a gradient": wrapped("tensor(N, grad_fn=<SelectBackward0>)"),
    "torch, as a number": wrapped("tensor(N).item()"),
    "Python 2": wrapped("NL").replace("'sep", "u'sep"),
    "lists node by node": call(nested(CELL.normal), nested(CELL.reduce)),
    "pairs of pairs with comments and further fields": pretty(),
    "FairDARTS' triples": call(triples(CELL.normal, True), triples(CELL.reduce, True)),
    "NAT's triples": call(triples(CELL.normal, False), triples(CELL.reduce, False)),
    "aw_nas": (
        f"CNNGenotype(normal_0={triples(CELL.normal, False)}, reduce_1={triples(CELL.reduce, False)}, "
        "normal_0_concat=[2, 3, 4, 5], reduce_1_concat=[2, 3, 4, 5])"
    ),
    "aw_nas without a name": f"normal_0={triples(CELL.normal, False)}, reduce_1={triples(CELL.reduce, False)}",
    "GDAS' weights": call(weighted(CELL.normal), weighted(CELL.reduce)),
    "bottlenecks that are empty": call(list(CELL.normal), list(CELL.reduce), more=", normal_bottleneck='', reduce_bottleneck=''"),
    "uninas": call(list(CELL.normal), list(CELL.reduce), more=", primitives='DartsPrimitives', source='original/darts'"),
    "without names of fields": f"Genotype({list(CELL.normal)}, [2, 3, 4, 5], {list(CELL.reduce)}, [2, 3, 4, 5])",
    "in another order": f"Genotype(reduce={list(CELL.reduce)}, reduce_concat=[2,3,4,5], normal={list(CELL.normal)}, {CONCAT})",
    "tuples": call(CELL.normal, CELL.reduce, concat=(2, 3, 4, 5)),
    "a list of a range": call(list(CELL.normal), list(CELL.reduce), concat="list(range(2, 6))"),
    "an array": call(list(CELL.normal), list(CELL.reduce), concat="array([2, 3, 4, 5])"),
    "a dictionary": str(fields()),
    "a dictionary with a range": str(fields(range(2, 6))),
    "keyword dictionary": f"genotype = Genotype(**{fields()})",
    "dict()": call(list(CELL.normal), list(CELL.reduce), name="dict"),
    "ordered dictionary": f"Genotype(**OrderedDict({list(fields().items())}))",
    "reduction in full": str({k.replace("reduce", "reduction"): v for k, v in fields().items()}),
    "a dictionary without concat": str({"normal": CELL.normal, "reduce": CELL.reduce}),
    "JSON": json.dumps(fields()),
    "JSON with a range as text": json.dumps(fields("range(2, 6)")),
    "JSON inside JSON": json.dumps({"rank": 2, "predicted_accuracy": 94.5, "genotype": fields()}, indent=2),
    "JSON of text": json.dumps({"space": "darts", "text": TEXT, "epoch": 49}),
    "JSON of JSON as text": json.dumps({"arch": json.dumps(fields())}),
    "JSON of source first": json.dumps({**fields(), "normal": [[source, op] for op, source in CELL.normal]}),
    "YAML in blocks": YAML_BLOCK,
    "YAML in one line": f"normal: {json.dumps(CELL.normal)}\nnormal_concat: [2, 3, 4, 5]\nreduce: {json.dumps(CELL.reduce)}\nreduce_concat: [2, 3, 4, 5]\n",
    "YAML of text": f"s1:\n  cifar10:\n    arch: {TEXT}\n",
    "TOML": "\n".join(f"{key} = {json.dumps(value)}" for key, value in fields().items()),
    "ConfigSpace of NAS-Bench-301": nasbench301(),
    "nni 2": nni(listed=False),
    "nni 2, inputs in lists": nni(listed=True),
    "nni 1": nni_switches(numbers=False),
    "nni 1, numbers": nni_switches(numbers=True),
    "a notebook": notebook(),
    "NASLib's names": TEXT.replace("sep_conv_3x3", "SepConv3x3").replace("skip_connect", "Identity").replace("dil_conv_5x5", "DilConv5x5"),
    "AutoDL's names": TEXT.replace("sep_conv_", "dua_sepc_").replace("dil_conv_", "dil_sepc_"),
    "typographic quotes": TEXT.replace("'", "’").replace("(’", "(‘"),
    "a paper's typesetting": TEXT.replace("'", "′").replace("3x3", "3×3"),
    "TeX": TEXT.replace("_", r"\_"),
    "TeX's quotes": TEXT.replace("('", "(`"),
    "a PDF that lost its quotes": TEXT.replace("'", ""),
    "full-width punctuation": TEXT.replace("(", "（").replace(")", "）").replace(",", "，"),
    "a web page": TEXT.replace("'", "&#39;"),
    "no-break spaces": TEXT.replace(" ", "\u00a0"),
    "colours of a terminal": f"\x1b[32m[INFO]\x1b[0m genotype = \x1b[1m{TEXT}\x1b[0m",
    "broken at 80 columns": "\n".join(TEXT[place : place + 80] for place in range(0, len(TEXT), 80)),
    "quoted in a mail": "> " + TEXT.replace(", (", ",\n> ("),
    "in a comment": "# " + TEXT.replace(", (", ",\n#   ("),
    "in Markdown": f"The cell we found:\n\n```python\n{TEXT}\n```\n\nIt has 3.43 M parameters.",
    "a string's repr": repr(f"genotype = {TEXT}\n"),
    "escaped quotes": f"genotype = '{TEXT}'".replace("'sep", r"\'sep").replace("x3'", r"x3\'").replace("x5'", r"x5\'").replace("('", r"(\'").replace("t'", r"t\'"),
    "Windows line ends": pretty().replace("\n", "\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_cell(form: str) -> None:
    assert read_text(FORMS[form]).genotype == CELL or sorted_cell(read_text(FORMS[form]).genotype) == sorted_cell(CELL)


def sorted_cell(genotype: object) -> object:
    """The two operations of a node have no order; exports list them by input."""
    assert isinstance(genotype, DartsGenotype)
    kinds = [
        tuple(tuple(sorted(pair, key=lambda gene: gene[1])) for pair in nested(genotype.genes(kind)))
        for kind in ("normal", "reduce")
    ]
    return kinds, genotype.normal_concat, genotype.reduce_concat


NB201 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|skip_connect~2|"
OPS = ("nor_conv_3x3", "nor_conv_3x3", "avg_pool_3x3", "none", "nor_conv_3x3", "skip_connect")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
TABULAR_FORMS = {
    "our text": NB201,
    "in quotes": f'"{NB201}"',
    "in brackets": f"best arch is [{NB201}], test_acc is [[94.56, 94.36]]",
    "with spaces": NB201.replace("|", " | "),
    "without outer bars": NB201.strip("|").replace("|+|", "+"),
    "AutoDL's structure": f"Structure(4 nodes with {NB201})",
    "HPOBench's structure": f"_Structure(4 nodes with {NB201})",
    "GDAS' log": f"[2019-11-02] <<<--->>> The 249-250-th epoch : Structure(4 nodes with {NB201})\n",
    "hyphens and short names": NB201.replace("skip_connect", "skip-connect").replace("nor_conv_3x3", "conv3x3").replace("avg_pool_3x3", "avg_pool"),
    "zero and identity": NB201.replace("none", "zero").replace("skip_connect", "Identity"),
    "over two lines": NB201.replace("+|none", "+\n|none"),
    "numbers in a tuple": "(3, 3, 4, 0, 3, 1)",
    "numbers in a list": "[3,3,4,0,3,1]",
    "numbers": "3 3 4 0 3 1",
    "numbers of numpy": "array([3, 3, 4, 0, 3, 1])",
    "names in a list": str(list(OPS)),
    "names, assigned": f"arch = {OPS}",
    "nodes of CellStructure": "[(('nor_conv_3x3', 0),), (('nor_conv_3x3', 0), ('avg_pool_3x3', 1)), (('none', 0), ('nor_conv_3x3', 1), ('skip_connect', 2))]",
    "HPOBench's configuration": str({f"{t}<-{s}": op for (s, t), op in zip(EDGES, OPS, strict=True)}),
    "nni's dictionary": str({f"{s}_{t}": op.replace("nor_", "") for (s, t), op in zip(EDGES, OPS, strict=True)}),
    "Syne Tune's configuration": json.dumps({f"hp_x{place}": op for place, op in enumerate(OPS)}),
}  # fmt: skip


@pytest.mark.parametrize("form", TABULAR_FORMS)
def test_every_form_of_a_tabular_cell(form: str) -> None:
    assert read_text(TABULAR_FORMS[form]).genotype == CellGenotype(OPS)


def test_an_index_needs_the_official_order() -> None:
    assert read_text(" 7 ", by_index=lambda index: NB201 if index == 7 else "").genotype == CellGenotype(OPS)
    with pytest.raises(UserError, match="give the string"):
        read_text("7")


def test_the_last_cell_of_a_log_is_taken_and_named() -> None:
    reading = read_text(LOG)
    assert reading.genotype == CELL
    assert reading.notes == ("took the last of 2 cells: line 5, epoch 49",)


def test_architecture_parameters_in_a_log_are_no_cell() -> None:
    alphas = "normal: [[0.12, 0.13], [0.2, 0.1]]\nreduce = [[0.1, 0.2]]\n{'normal': [[0.12, 0.13]], 'reduce': [[0.1, 0.2]]}\n"
    assert read_text(LOG + alphas).genotype == CELL
    with pytest.raises(UserError, match="is not valid"):
        read_text(alphas)


def test_a_cell_is_picked_by_name_or_line() -> None:
    text = f"A = {OTHER}\nB = {TEXT}\n# C = {OTHER}\n"
    assert read_text(text, "genotypes.py").notes == ("took the last of 2 cells: B, line 2",)
    assert read_text(text, "genotypes.py", "A").genotype == KNOWN_GENOTYPES["DARTS_V1"]
    assert read_text(text, "genotypes.py", "1").genotype == KNOWN_GENOTYPES["DARTS_V1"]
    with pytest.raises(UserError, match=r"genotypes.py: 'D' is not valid; allowed: A, B\."):
        read_text(text, "genotypes.py", "D")
    with pytest.raises(UserError, match="a line with a cell: 1, 2"):
        read_text(text, "genotypes.py", "9")


def test_programs_that_compute_a_cell_hold_none() -> None:
    program = "Genotype = namedtuple('Genotype', 'normal normal_concat')\n\ndef parse(self):\n    return Genotype(normal=gene, normal_concat=concat)\n"
    assert read_text(f"{program}{TEXT}\n{program}").genotype == CELL
    with pytest.raises(UserError, match="the program that computes it"):
        read_text(program)


def test_nodes_with_one_input_and_nodes_without_any() -> None:
    """FairDARTS_a of xiaomi-automl/FairDARTS, fairdarts/genotypes.py, as printed there."""
    text = (
        "FairDARTS_a = Genotype(normal=[('sep_conv_3x3', 2, 0), ('sep_conv_5x5', 2, 1), ('max_pool_3x3', 4, 0), ('sep_conv_3x3', 5, 0)], "
        "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 2, 0), ('avg_pool_3x3', 2, 1), ('avg_pool_3x3', 3, 0), "
        "('dil_conv_5x5', 3, 1), ('avg_pool_3x3', 4, 0), ('sep_conv_5x5', 4, 1), ('skip_connect', 5, 0), ('skip_connect', 5, 1)], "
        "reduce_concat=range(2, 6))"
    )
    reading = read_text(text)
    assert reading.genotype == KNOWN_GENOTYPES["FairDARTS_a"]
    assert "nothing enters node 3 of the normal cell: it is left out and later nodes move up" in reading.notes
    # FairDARTS_c reads the node that nothing enters; its network passes that edge over.
    text = text.replace("('sep_conv_3x3', 5, 0)", "('skip_connect', 5, 3), ('sep_conv_3x3', 5, 0)")
    again = read_text(text)
    assert again.genotype == reading.genotype
    assert "genotype.normal[3] reads node 3, which nothing enters, and is left out" in again.notes


GENES = [list(gene) for gene in CELL.normal]


def changed(place: int, gene: object) -> str:
    genes: list[object] = [tuple(gene) for gene in GENES]
    genes[place] = gene
    return call(genes, list(CELL.reduce))


REFUSED = {
    "index 1.9": (changed(3, ("sep_conv_3x3", 1.9)), "genotype.normal[3]: 1.9 is not valid; allowed: a whole number, the input node."),
    "index in quotes": (changed(3, ("skip_connect", "1")), "genotype.normal[3]: '1' is not valid; allowed: a whole number, the input node."),
    "True": (changed(3, ("skip_connect", True)), "genotype.normal[3]: True is not valid; allowed: a whole number, the input node."),
    "None": (changed(2, ("skip_connect", None)), "genotype.normal[2]: None is not valid; allowed: a whole number"),
    "a later node": (changed(2, ("skip_connect", 3)), "genotype.normal[2]: 3 is not valid; allowed: an input from 0 to 2 for node 3. A node reads only earlier nodes."),
    "a negative node": (changed(0, ("skip_connect", -1)), "genotype.normal[0]: -1 is not valid; allowed: an input from 0 to 1 for node 2."),
    "an unknown operation": (changed(5, ("sep_conv_7x7", 0)), "genotype.normal[5]: 'sep_conv_7x7' is not valid; allowed: none, max_pool_3x3"),
    "a near miss": (changed(5, ("sep_conv_3x4", 0)), "Did you mean sep_conv_3x3?"),
    "a number for an operation": (changed(1, (4, 0)), "genotype.normal[1]: [4, 0] is not valid; allowed: ('operation', input node), the operation by its name."),
    "an entry that is no pair": (changed(1, "sep_conv_3x3"), "genotype.normal[1]: 'sep_conv_3x3' is not valid; allowed: ('operation', input node)."),
    "one triple among pairs": (changed(4, ("skip_connect", 4, 0)), "genotype.normal[4]"),
    "an odd number of pairs": (call(GENES[:7], list(CELL.reduce)), "genotype.normal: '7 pairs' is not valid; allowed: two for each node."),
    "an empty cell": (call([], list(CELL.reduce)), "genotype.normal: [] is not valid"),
    "no reduction cell": (call(list(CELL.normal), None), "genotype.reduce: None is not valid"),
    "three inputs": (call([[("skip_connect", 0)] * 3], list(CELL.reduce), concat=[2]), "genotype.normal[0][2]: 'a third input of node 2' is not valid; allowed: two inputs for each node."),
    "an empty concat": (TEXT.replace(CONCAT, "normal_concat=[]"), "genotype.normal_concat: [] is not valid; allowed: the nodes whose outputs are concatenated, some of 2 to 5"),
    "a repeated node": (TEXT.replace(CONCAT, "normal_concat=[2, 3, 3]"), "genotype.normal_concat[2]: 3 is not valid; allowed: each node once."),
    "an input node in the concat": (TEXT.replace(CONCAT, "normal_concat=[1, 2]"), "genotype.normal_concat[0]: 1 is not valid; allowed: an intermediate node, 2 to 5."),
    "a number for the concat": (TEXT.replace(CONCAT, "normal_concat=4"), "genotype.normal_concat: 4 is not valid"),
    "True in the concat": (TEXT.replace(CONCAT, "normal_concat=[2, True]"), "genotype.normal_concat[1]: True is not valid"),
    "a huge range": (TEXT.replace(CONCAT, "normal_concat=range(10**9)"), "the program that computes it"),
    "a lost field": (TEXT.replace(f"{CONCAT}, ", ""), "genotype.normal_concat: 'missing' is not valid"),
    "a further field": (call(list(CELL.normal), list(CELL.reduce), more=", stem='deep'"), "genotype.stem: 'deep' is not valid"),
    "a bottleneck": (call(list(CELL.normal), list(CELL.reduce), more=", normal_bottleneck='conv_1x1'"), "genotype.normal_bottleneck: 'conv_1x1' is not valid; allowed: None or empty."),
    "a recurrent cell": ("Genotype(recurrent=[('tanh', 0)], concat=range(1, 9))", "Recurrent cells are not built here."),
    "cut off": (TEXT[:200], "genotype at line 1: 'cut off' is not valid"),
    "cut off after a whole one": (f"{OTHER}\n{TEXT[:200]}", "genotype at line 2: 'cut off' is not valid; allowed: a whole genotype, all brackets closed. Whole cells stand at line 1 and before."),
    "a call": ("Genotype(normal=__import__('os').system('touch pwned'), normal_concat=[2])", "the program that computes it"),
    "multiplied": ("Genotype(normal=[('none', 0)]*10**9, normal_concat=[2], reduce=[], reduce_concat=[2])", "the program that computes it"),
    "wrong in the last cell of several": (f"{OTHER}\n{changed(3, ('skip_connect', 1.9))}", "genotype at line 2: genotype.normal[3]: 1.9"),
    "two nodes": ("|none~0|+|none~0|none~1|", "This has 2; copy the whole string."),
    "an operation of the other space": (NB201.replace("none~0", "sep_conv_3x3~0"), "genotype, node 3, place 0: 'sep_conv_3x3' is not valid; allowed: none, skip_connect"),
    "an input too late": (NB201.replace("avg_pool_3x3~1", "avg_pool_3x3~2"), "genotype, node 2, place 1: 'avg_pool_3x3~2' is not valid; allowed: operation~input, inputs 0 to 1."),
    "an input twice": (NB201.replace("avg_pool_3x3~1", "avg_pool_3x3~0"), "genotype, node 2, place 1: 'avg_pool_3x3~0' is not valid; allowed: each input once."),
    "an edge without operation": ("|none~0|+|none~0|+|none~0|none~1|none~2|", "no operation from node 1 to node 2"),
    "a number too large": ("(3, 3, 5, 0, 3, 1)", "genotype[2]: 5 is not valid; allowed: 0 to 4."),
    "a word": ("PDART", "Did you mean PDARTS?"),
    "nothing": ("", "genotype: '' is not valid"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_named_with_its_place(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, sentence = REFUSED[case]
    with pytest.raises(UserError) as refused:
        read_text(text)
    assert sentence in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert not list(tmp_path.iterdir())
