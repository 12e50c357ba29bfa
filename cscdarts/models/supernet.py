"""The supernet of a space with channel-split and identity connections.

One cell class serves all spaces; which inputs it preprocesses, and which nodes are its output, the space says.
Architecture parameters: `alphas[kind]` of shape (edges, operations), rows in the order of `Space.edges`; with edge
normalisation also `betas[kind]` of shape (edges,).
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from cscdarts.kernels.mixing_weights import EdgeWeights, NodeWeights
from cscdarts.models.activation_checkpointing import Level, checkpointed
from cscdarts.models.channel_split import Split, concat_and_shuffle
from cscdarts.models.identity import CellIdentity
from cscdarts.models.mixed_ops import GroupedOps, GroupedWeights, Kernels, MixedOps, mixed_operations
from cscdarts.models.operations import ResidualReduction, head, preprocessing, stems
from cscdarts.models.relaxation.mixing import Relaxation, Weighting
from cscdarts.settings.config import SupernetConfig
from cscdarts.spaces import CLOSED, OPERATIONS, SPACES, CellPlan
from cscdarts.spaces.rules import Columns

#: Mixing weights per kind of cell: (edges, operations), and (edges,) factors of edge normalisation or None.
Mixing = dict[str, tuple[Tensor, Tensor | None]]
#: Each node's mixing weights in one pass.
CellWeights = list[EdgeWeights | GroupedWeights]


class SearchCell(nn.Module):
    """A cell in which every edge holds all operations, or all that are its candidates.

    Args:
        config: the supernet's config.
        plan: the cell's place: its kind, its channels, what it reads.
        identity: the active identity connection: `cell`, `edge` or `none`.
        columns: for each edge those of its operations; None for all candidates of the space.
    """

    weight_order: Tensor
    edge_order: Tensor

    def __init__(
        self,
        config: SupernetConfig,
        plan: CellPlan,
        identity: str = "none",
        columns: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__()
        space = SPACES[config.space]
        assert config.ops is not None
        self.space, self.config, self.plan, self.identity = space, config, plan, identity
        self.checkpoint_nodes = False
        self.preprocess = nn.ModuleList(preprocessing(plan, affine=False) if space.preprocesses else [])
        self.splits, self.mixed_ops, self.edge_identities = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        columns = space.columns(plan.kind, config.ops) if columns is None else columns
        for source, rows in enumerate(space.outgoing):
            stride = 2 if plan.reduction and source < space.inputs else 1
            split = Split(config, plan.channels, stride)
            self.splits.append(split)
            its = [columns[row] for row in rows]
            self.mixed_ops.append(mixed_operations(config.ops, its, split.operated, stride, space.pool_norm))
            if identity == "edge" and stride == 2:
                self.edge_identities.append(MixedOps(("skip_connect",), len(rows), plan.channels, stride))
            else:
                self.edge_identities.append(nn.Identity())
        # Where each group's weights stand among all edges' and operations', group by group, operation by operation.
        groups = self._groups()
        order = [
            row * len(config.ops) + config.ops.index(op)
            for group, rows in groups
            for op in group.active
            for row in rows
        ]
        self._shapes = [(len(group.active), group.edges) for group, _ in groups]
        self.register_buffer("weight_order", torch.tensor(order, dtype=torch.long), persistent=False)
        edges = [row for _, rows in groups for row in rows]
        self.register_buffer("edge_order", torch.tensor(edges, dtype=torch.long), persistent=False)
        self.cell_identity = (
            CellIdentity(plan.inputs[-1], plan.outputs, 2 if plan.reduction else 1, config.identity_proj, affine=False)
            if identity == "cell"
            else None
        )

    def _groups(self) -> list[tuple[MixedOps, list[int]]]:
        """What is computed together, with the rows of its edges: of a node all, or those with the same candidates."""
        found: list[tuple[MixedOps, list[int]]] = []
        for node_ops, rows in zip(self.mixed_ops, self.space.outgoing, strict=True):
            if isinstance(node_ops, GroupedOps):
                parts = zip(node_ops.groups, node_ops.members, strict=True)
                found += [(group, [rows[edge] for edge in edges]) for group, edges in parts]  # type: ignore[misc]
            else:
                found.append((node_ops, list(rows)))  # type: ignore[arg-type]
        return found

    def mixing_weights(
        self, mixing: Tensor, factors: Tensor | None, chosen: Sequence[int] | None = None
    ) -> CellWeights:
        """Mixing weights node by node, as this cell and all others of its kind take them.

        Args:
            mixing: (edges, operations); factors: (edges,) of edge normalisation, or None for 1.
            chosen: of one-hot rows the column of each, if only these operations are to be computed.
        """
        of_groups = None
        if factors is not None:
            mixing = mixing * factors[:, None]
            of_groups = factors.index_select(0, self.edge_order).split_with_sizes([e for _, e in self._shapes])
        found = NodeWeights(mixing.flatten().index_select(0, self.weight_order), self._shapes, of_groups).nodes
        if chosen is not None:
            ops = self.config.ops or ()
            for weights, (group, rows) in zip(found, self._groups(), strict=True):
                # An edge without its only operation has its largest weight, 0, where another edge's may stand.
                weights.chosen = group.rows_of([ops[chosen[row]] for row in rows])
        groups = iter(found)
        return [
            node_ops.gather(list(islice(groups, len(node_ops.groups))))
            if isinstance(node_ops, GroupedOps)
            else next(groups)
            for node_ops in self.mixed_ops
        ]

    def forward(self, previous: tuple[Tensor, ...], mixing: CellWeights, scale: float) -> Tensor:
        """Compute the cell.

        Args:
            previous: the outputs of the cells before that it reads, the newest last.
            mixing: each node's mixing weights, from `mixing_weights`.
            scale: the identity's scale; 0 is the same as no identity.

        Returns:
            (n, outputs, h, w).
        """
        space, config = self.space, self.config
        states = list(previous)
        if self.preprocess:
            states = [layer(s) for layer, s in zip(self.preprocess, previous, strict=True)]
        sums = _NodeSums(config)
        for source, weights in enumerate(mixing):
            node_ops = self.mixed_ops[source]
            if source >= space.inputs:
                states.append(sums.take())
            x = states[source]
            operated, bypass = self.splits[source](x)
            mixed = checkpointed(node_ops, operated, weights) if self.checkpoint_nodes else node_ops(operated, weights)
            sums.add_mixed(mixed, bypass, weights.factors)
            if self.identity == "edge" and scale != 0:
                self._add_edge_identity(sums, source, x, scale, weights.factors)
        states.append(sums.take())
        joined = [states[node] for node in space.output_nodes]
        output = torch.cat(joined, dim=1) if len(joined) > 1 else joined[0]
        if self.cell_identity is not None and scale != 0:
            carried = self.cell_identity(previous[-1])
            if carried is not None:
                output = output + (carried if scale == 1 else scale * carried)
        return output

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Runs stored by 0.1.0 call the mixed operations `fanouts`.
        for key in [key for key in state_dict if key.startswith(f"{prefix}fanouts.")]:
            state_dict[f"{prefix}mixed_ops.{key.removeprefix(f'{prefix}fanouts.')}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _add_edge_identity(
        self, sums: "_NodeSums", source: int, x: Tensor, scale: float, factors: Tensor | None
    ) -> None:
        layer = self.edge_identities[source]
        if isinstance(layer, MixedOps):
            weights = x.new_full((layer.edges,), scale) if factors is None else scale * factors
            sums.whole.add_each(layer(x, layer.mixing_weights(weights[:, None])))
        else:
            sums.whole.add(x if scale == 1 else scale * x, factors)


class _Pending:
    """Sums of what has arrived at the nodes that are not complete: the same map for all, and one for each."""

    def __init__(self) -> None:
        self.common: Tensor | None = None
        self.parts: list[Tensor] = []
        self.arrived = 0  # how many maps are in each of the parts

    def add(self, part: Tensor, factors: Tensor | None) -> None:
        """Add part: (n, c, h, w) to each node, times its factor if factors: (nodes,) are given."""
        if factors is not None:
            self.add_each([factor * part for factor in factors.unbind()])
        else:
            self.common = part if self.common is None else self.common + part

    def add_each(self, parts: Sequence[Tensor]) -> None:
        """Add to each node its own map (n, c, h, w)."""
        if self.arrived == 0:
            self.parts = list(parts)
        elif self.arrived == 1:
            self.parts = [total + part for total, part in zip(self.parts, parts, strict=True)]
        else:  # sums of our own
            self.parts = [total.add_(part) for total, part in zip(self.parts, parts, strict=True)]
        self.arrived += 1

    def take(self) -> Tensor | None:
        """The sum of the first of the nodes still pending, (n, c, h, w), which is complete now."""
        if not self.parts:
            return self.common
        first = self.parts.pop(0)
        return first if self.common is None else first + self.common


class _NodeSums:
    """What arrives at the pending nodes, kept apart as operated, bypassed and whole maps until a node is complete."""

    def __init__(self, config: SupernetConfig) -> None:
        self.config = config
        self.mixed, self.bypass, self.whole = _Pending(), _Pending(), _Pending()

    def add_mixed(self, mixed: Sequence[Tensor], bypass: Tensor | None, factors: Tensor | None) -> None:
        """Add a node's mixed operations (n, c1, h, w), factors included, and what bypasses them (n, c - c1, h, w)."""
        if bypass is None:
            self.whole.add_each(mixed)
        else:
            self.mixed.add_each(mixed)
            self.bypass.add(bypass, factors)

    def take(self) -> Tensor:
        """The value (n, c, h, w) of the first of the pending nodes."""
        whole, mixed, bypass = (pending.take() for pending in (self.whole, self.mixed, self.bypass))
        if mixed is not None:
            joined = concat_and_shuffle(mixed, bypass, self.config.split_ratio, self.config.shuffle)
            whole = joined if whole is None else whole + joined
        assert whole is not None
        return whole


class Supernet(nn.Module):
    """The whole supernet: stem, cells, classifier, architecture parameters, as its space's skeleton stacks them.

    Args:
        config: space, size, split, identity.
        classes: number of classes.
        image_channels: channels of the images.
        identity: the identity active in search (`RunConfig.identity_in("search")`).
        large_images: whether the images are large (`spaces.is_large`), for which some spaces have another stem.
        alpha_std: standard deviation of the initial architecture parameters.
        weighting: how architecture parameters become mixing weights, see `cscdarts.models.relaxation.mixing`.
        columns: kind -> for each edge the columns of the operations that it chooses among; None for all candidates of
            the space.
    """

    def __init__(
        self,
        config: SupernetConfig,
        classes: int,
        image_channels: int = 3,
        identity: str = "none",
        large_images: bool = False,
        alpha_std: float = 1e-3,
        weighting: Weighting = "softmax",
        columns: Columns | None = None,
    ) -> None:
        super().__init__()
        space = SPACES[config.space]
        assert config.ops is not None
        self.config, self.space = config, space
        self.columns = columns or {kind: space.columns(kind, config.ops) for kind in space.cell_kinds}
        self.identity_scale = config.identity_scale
        self.checkpoint_cells = False
        self._portable = False
        plan = space.plan(config.cells, config.channels, large_images)
        self.cells = nn.ModuleList()
        self.stem0, self.stem = stems(plan, image_channels)
        self.cells.extend(
            SearchCell(config, block, identity, self.columns[block.kind])
            if isinstance(block, CellPlan)
            else ResidualReduction(block.inputs, block.outputs)
            for block in plan.blocks
        )
        self.head = head(plan)
        self.classifier = nn.Linear(plan.features, classes)
        edges, ops = len(space.edges), len(config.ops)
        self.alphas = nn.ParameterDict({kind: alpha_std * torch.randn(edges, ops) for kind in space.cell_kinds})
        self.betas = nn.ParameterDict(
            {kind: alpha_std * torch.randn(edges) for kind in space.cell_kinds} if config.edge_norm else {}
        )
        self.close_columns()
        skips = [column for column, op in enumerate(config.ops) if OPERATIONS[op].is_skip]
        self.relaxation = Relaxation(weighting, dict.fromkeys(space.cell_kinds, (edges, ops)), skips)

    def checkpoint_activations(self, level: Level) -> None:
        """Choose what is computed again in the backward pass instead of being kept."""
        self.checkpoint_cells = level == "cell"
        for cell in self.cells:
            if isinstance(cell, SearchCell):
                cell.checkpoint_nodes = level == "node"

    def use(self, kernels: Kernels) -> None:
        """Choose how the mixed operations are computed, once the model is on its device; values stay."""
        device = self.classifier.weight.device.type
        self._portable = kernels == "portable" or (kernels == "auto" and device != "cpu")
        for layer in self.modules():
            if isinstance(layer, MixedOps):
                layer.use(kernels)

    @torch.no_grad()
    def close_columns(self) -> None:
        """Hold the architecture parameters of operations that are no candidates of their edge at `CLOSED`."""
        ops = self.config.ops
        assert ops is not None
        for kind, alpha in self.alphas.items():
            for row, columns in enumerate(self.columns[kind]):
                if len(columns) < len(ops):
                    alpha[row, [column for column in range(len(ops)) if column not in columns]] = CLOSED

    def architecture(self) -> list[nn.Parameter]:
        """The architecture parameters: alphas, then betas."""
        return [*self.alphas.values(), *self.betas.values()]

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        own = {id(parameter) for parameter in self.architecture()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def mixing(self) -> Mixing:
        """Weights of the operations, softmax(alpha) or another relaxation's, and with edge normalisation softmax(beta)
        over a node's inputs."""
        mixed: Mixing = {}
        for kind, alpha in self.alphas.items():
            factors = None
            if kind in self.betas:
                # Rows are ordered by target, so the groups follow one another.
                groups = self.betas[kind].split_with_sizes([len(rows) for rows in self.space.incoming.values()])
                factors = torch.cat([group.softmax(0) for group in groups])
            mixed[kind] = (self.relaxation(kind, alpha), factors)
        return mixed

    def draw_channels(self, generator: torch.Generator) -> None:
        """With `split_pick=random`: draw, for every node, which channels go to the operations in the next passes."""
        for split in self.modules():
            if isinstance(split, Split):
                device = next(self.parameters()).device
                split.order = torch.randperm(split.channels, generator=generator).to(device)

    def forward(self, x: Tensor, mixing: Mixing | None = None) -> Tensor:
        """Logits (n, classes) of images x: (n, image_channels, h, w).

        Args:
            mixing: mixing weights in place of those of the architecture parameters (one-hot rows give a discrete cell).
        """
        one_hot = mixing is None and self.relaxation.one_hot
        mixing = self.mixing() if mixing is None else mixing
        # Which operations a sample has is asked of the device once a pass, and lets it compute no others.
        chosen = {kind: mixed.argmax(-1).tolist() for kind, (mixed, _) in mixing.items()} if one_hot else {}
        # Once for all cells of a kind, and outside of what is computed again.
        weights: dict[tuple[str, bool], CellWeights] = {}
        # All that follows keeps this layout: on CPUs and in plain autograd channels_last, else the portable kernels'.
        x = x.contiguous(memory_format=torch.contiguous_format if self._portable else torch.channels_last)
        if self.stem0 is None:
            first = second = self.stem(x)
        else:
            first = self.stem0(x)
            second = self.stem(first)
        for cell in self.cells:
            if not isinstance(cell, SearchCell):
                first, second = second, cell(second)
                continue
            plan = cell.plan
            # A reduction that shares its parameters with other cells has some operations in another order.
            place = (plan.kind, plan.reduction)
            if place not in weights:
                weights[place] = cell.mixing_weights(*mixing[plan.kind], chosen.get(plan.kind))
            arguments = ((first, second)[-self.space.inputs :], weights[place], self.identity_scale)
            output = checkpointed(cell, *arguments) if self.checkpoint_cells else cell(*arguments)
            first, second = second, output
        out: Tensor = self.classifier(self.head(second).mean((2, 3)))
        return out
