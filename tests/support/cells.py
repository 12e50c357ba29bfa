"""Cells that hold every operation, for tests of networks and of what is made of them."""

#: Between them each operation at each stride; `darts, few nodes` makes cells narrower than their input.
CELLS = {
    "darts": "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 0), ('max_pool_3x3', 2)], "
    "normal_concat=range(2, 4), reduce=[('skip_connect', 0), ('avg_pool_3x3', 1), ('dil_conv_3x3', 1), "
    "('sep_conv_5x5', 2)], reduce_concat=range(2, 4))",
    "darts, few nodes": "Genotype(normal=[('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('none', 1), ('skip_connect', 2)], "
    "normal_concat=[3], reduce=[('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('dil_conv_5x5', 0), ('none', 1)], "
    "reduce_concat=range(2, 4))",
    "nasbench201": "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|",
}
