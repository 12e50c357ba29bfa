"""Published cells by name, each with the public file it was taken from. No torch.

Only cells whose operations our network builds: NASNet, AmoebaNet and PNASNet use 7x7 convolutions, SETN a 3x1 one.
FairDARTS keeps fewer than two operations for some nodes; the second is `none` here, nodes that nothing enters are left
out and later ones move up, which is the network that FairDARTS' code builds.
"""

from dataclasses import dataclass

from cscdarts.spaces.darts import DARTS, DartsGenotype, Gene

_SHORT = {
    "s3": "sep_conv_3x3",
    "s5": "sep_conv_5x5",
    "d3": "dil_conv_3x3",
    "d5": "dil_conv_5x5",
    "id": "skip_connect",
    "mp": "max_pool_3x3",
    "ap": "avg_pool_3x3",
    "no": "none",
}


@dataclass(frozen=True)
class KnownCell:
    """A published cell.

    Attributes:
        genotype: the cell.
        source: repository, file, and the cell's name there.
        params_m: millions of parameters that the source prints for 36 channels, 20 cells, 10 classes; None where it
            prints none.
        remark: what the number or the cell needs to be understood.
    """

    genotype: DartsGenotype
    source: str
    params_m: float | None = None
    remark: str = ""


def _cell(normal: str, reduce: str) -> DartsGenotype:
    """Compact spelling: `s3:1` is sep_conv_3x3 from node 1; every node is concatenated."""

    def genes(text: str) -> tuple[Gene, ...]:
        pairs = (gene.split(":") for gene in text.split())
        return tuple((_SHORT[op], int(source)) for op, source in pairs)

    def nodes(found: tuple[Gene, ...]) -> tuple[int, ...]:
        return tuple(range(DARTS.inputs, DARTS.inputs + len(found) // 2))

    cells = genes(normal), genes(reduce)
    return DartsGenotype(cells[0], nodes(cells[0]), cells[1], nodes(cells[1]))


_FAIR = "xiaomi-automl/FairDARTS:fairdarts/genotypes.py"
_WITH_HEAD = "the printed count includes the auxiliary head"

KNOWN_CELLS: dict[str, KnownCell] = {
    "DARTS_V1": KnownCell(
        _cell("s3:1 s3:0 id:0 s3:1 id:0 s3:1 s3:0 id:2", "mp:0 mp:1 id:2 mp:0 mp:0 id:2 id:2 ap:0"),
        "quark0/darts:cnn/genotypes.py, there DARTS",
    ),
    "DARTS_V2": KnownCell(
        _cell("s3:0 s3:1 s3:0 s3:1 s3:1 id:0 id:0 d3:2", "mp:0 mp:1 id:2 mp:1 mp:0 id:2 id:2 mp:1"),
        "yuhuixu1993/PC-DARTS:genotypes.py",
    ),
    "PC_DARTS_cifar": KnownCell(
        _cell("s3:1 id:0 s3:0 d3:1 s5:0 s3:1 ap:0 d3:1", "s5:1 mp:0 s5:1 s5:2 s3:0 s3:3 s3:1 s3:2"),
        "yuhuixu1993/PC-DARTS:genotypes.py",
    ),
    "PC_DARTS_image": KnownCell(
        _cell("id:1 s3:0 s3:0 id:1 s3:1 s3:3 s3:1 d5:4", "s3:0 id:1 d5:2 mp:1 s3:2 s3:1 s5:0 s3:3"),
        "yuhuixu1993/PC-DARTS:genotypes.py",
    ),
    "PDARTS": KnownCell(
        _cell("id:0 d3:1 id:0 s3:1 s3:1 s3:3 s3:0 d5:4", "ap:0 s5:1 s3:0 d5:2 mp:0 d3:1 d3:1 d5:3"),
        "chenxin061/pdarts:genotypes.py",
    ),
    "SNAS": KnownCell(
        _cell("s3:0 s3:1 id:0 d3:1 id:1 id:0 id:0 s3:1", "mp:0 mp:1 mp:1 id:2 id:2 mp:1 mp:0 d5:2"),
        f"{_FAIR}, after arXiv 1812.09926",
        2.66,
        "no file of the authors was found; the cell under the mild constraint",
    ),
    "GDAS": KnownCell(
        _cell("id:0 id:1 id:0 s5:2 s3:3 id:0 s5:4 s3:3", "s5:0 s3:1 s5:2 s5:1 d5:2 s3:1 s5:0 s5:1"),
        "D-X-Y/AutoDL-Projects:xautodl/nas_infer_model/DXYs/genotypes.py, there GDAS_V1",
        3.36,
        f"the count is printed in {_FAIR}, cut after two decimals; that file has another input at the last place",
    ),
    "DrNAS_cifar10": KnownCell(
        _cell("s3:0 s5:1 s3:1 s3:2 id:0 s3:1 s3:2 d5:3", "mp:0 s5:1 d5:2 s5:1 s5:1 d5:3 id:4 s5:1"),
        "xiangning-chen/DrNAS:DARTS-space/genotypes.py",
    ),
    "DrNAS_imagenet": KnownCell(
        _cell("s3:1 s3:0 s3:0 s3:1 s3:0 d3:3 id:0 s3:1", "mp:0 s3:1 s3:0 id:2 s3:0 s3:2 s3:3 s3:1"),
        "xiangning-chen/DrNAS:DARTS-space/genotypes.py",
    ),
    "SGAS_Cri1": KnownCell(
        _cell("s3:0 d3:1 s3:0 s3:1 s5:1 s5:3 id:0 d5:2", "mp:0 d5:1 s3:0 id:2 s3:1 id:2 mp:0 mp:1"),
        "lightaime/sgas:cnn/genotypes.py, there Cri1_CIFAR_Best",
        3.80,
    ),
    "SGAS_Cri2": KnownCell(
        _cell("s3:0 s3:1 s3:0 s3:2 mp:0 s3:3 s3:2 s3:3", "s3:0 mp:1 d3:0 mp:1 mp:0 s3:2 mp:0 s5:2"),
        "lightaime/sgas:cnn/genotypes.py, there Cri2_CIFAR_Best",
        4.09,
    ),
    "ENAS": KnownCell(
        _cell("s3:1 id:1 s5:1 id:0 ap:0 s3:1 s3:0 ap:1 s5:1 ap:0", "s5:0 s3:1 s3:1 ap:1 s3:1 ap:1 ap:1 s5:4 s3:5 s5:0"),
        f"{_FAIR}, there ENASNet",
        4.02,
        "five nodes",
    ),
    "MdeNAS": KnownCell(
        _cell("s5:1 s3:0 id:0 s5:1 s5:3 s3:1 d5:3 mp:4", "mp:0 s5:1 id:0 id:1 s3:3 id:2 d3:3 s5:0"),
        "tanglang96/MDENAS:run_darts_cifar.sh",
        3.78,
        f"the count is printed in {_FAIR}",
    ),
    "DARTS_minus": KnownCell(
        _cell("s3:0 s5:1 s3:1 d3:2 id:1 s3:0 id:1 s3:0", "s3:0 mp:1 id:2 mp:0 id:2 id:3 id:2 id:3"),
        "Meituan-AutoML/DARTS-:src/eval/genotypes.py, there cifar10_s0_best",
    ),
    "FairDARTS_a": KnownCell(
        _cell("s3:0 s5:1 mp:0 no:0 s3:0 no:0", "mp:0 ap:1 ap:0 d5:1 ap:0 s5:1 id:0 id:1"), _FAIR, 2.83, _WITH_HEAD
    ),
    "FairDARTS_b": KnownCell(
        _cell("s3:0 s3:1 s3:1 no:0 d3:0 s5:1 d5:1 no:0", "id:0 d3:1 id:0 d3:1 mp:0 s3:1 id:2 mp:0"),
        _FAIR,
        3.88,
        _WITH_HEAD,
    ),
    "FairDARTS_c": KnownCell(
        _cell("mp:0 s5:1 d3:0 d5:2 s3:0 no:0", "d3:1 d5:0 d3:0 s3:1 s5:0 s5:3 s5:0 id:1"), _FAIR, 2.59
    ),
    "FairDARTS_d": KnownCell(
        _cell("s3:0 s5:1 d3:1 mp:0 d3:0 d3:1 s3:0 d5:1", "mp:0 s5:1 ap:0 d5:2 d3:3 ap:0 ap:0 id:3"),
        _FAIR,
        3.84,
        _WITH_HEAD,
    ),
    "FairDARTS_e": KnownCell(
        _cell("s3:0 s3:1 d3:1 d3:2 d3:0 d5:1", "mp:1 mp:0 mp:1 mp:0 s5:1 mp:0 ap:0 d5:1"), _FAIR, 3.12, _WITH_HEAD
    ),
    "FairDARTS_f": KnownCell(
        _cell("mp:0 s3:1 d3:1 no:0 s5:1 no:0 s3:0 s3:1", "mp:0 mp:1 mp:0 d3:1 d3:2 mp:0 mp:0 s3:1"),
        _FAIR,
        3.62,
        _WITH_HEAD,
    ),
    "FairDARTS_g": KnownCell(
        _cell("s3:0 s3:1 s5:1 no:0 d3:0 s3:1", "ap:1 id:0 id:2 mp:1 s5:3 mp:0 d3:1 d3:4"), _FAIR, 3.375, _WITH_HEAD
    ),
}

KNOWN_GENOTYPES: dict[str, DartsGenotype] = {name: cell.genotype for name, cell in KNOWN_CELLS.items()}

_NAMES = {str(genotype): name for name, genotype in KNOWN_GENOTYPES.items()}

#: What the cells are called elsewhere.
OTHER_NAMES = {"DARTS-": "DARTS_minus", "GDAS_V1": "GDAS", "ENASNet": "ENAS", "SNAS_MILD": "SNAS"}


def name_of(genotype: object) -> str | None:
    """The name of the known cell that a genotype is, gene by gene, or None; a genotype's text will do."""
    return _NAMES.get(str(genotype))


def known_name(text: str) -> str | None:
    """The name of the known cell that a text means, whatever its case and punctuation, or None."""
    if text in OTHER_NAMES:
        return OTHER_NAMES[text]
    if len(text) > 40:
        return None

    def squeezed(name: str) -> str:
        return "".join(sign for sign in name.lower() if sign.isalnum())

    spellings = {squeezed(name): ours for name, ours in OTHER_NAMES.items() if name != "DARTS-"}
    return (spellings | {squeezed(name): name for name in KNOWN_CELLS}).get(squeezed(text))
