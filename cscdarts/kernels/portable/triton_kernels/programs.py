"""Triton programs of the portable mixed operation: what torch does in several passes over a map, in one launch.

Maps are contiguous, (n, channels, h, w). A launch takes several of them as tuples of pointers. Programs that need a
channel's statistics have one instance a channel, which goes through the channel twice where it also writes it: the
second time it finds most of it in the cache. All others have one instance a plane of h x w pixels. No sum is shared
between instances, so results do not depend on the order in which they run.

`ACC` is the type of sums: float32, or float64 of float64 maps.
"""

import triton
from triton import language as tl


@triton.jit
def _address(n, channels, channel, pixels, p):
    """Offset of pixel p in a map's plane; of large maps it exceeds 32 bits."""
    return (n.to(tl.int64) * channels + channel) * pixels + p


@triton.jit
def normalise(
    maps, weights, weighted, means, variances, channels, rectified, statistics,
    total, on, width, images, pixels, momentum, eps,
    TRACK: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Rows of `statistics`, (4, total): mean, 1/sqrt(var + eps), that times the weight, the shift that goes with it.

    The first `on` channels of the first map are also normalised and rectified, (on/width, n, width, h, w).
    """
    pid = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    count = images * pixels
    begin = 0
    for t in tl.static_range(len(maps)):
        if (pid >= begin) & (pid < begin + channels[t]):
            channel = pid - begin
            mean = tl.zeros((BLOCK,), ACC)
            square = tl.zeros((BLOCK,), ACC)
            seen = tl.zeros((BLOCK,), ACC)
            for start in range(0, count, BLOCK):
                at = start + lanes
                ok = at < count
                place = _address(at // pixels, channels[t], channel, pixels, at % pixels)
                v = tl.load(maps[t] + place, mask=ok, other=0.0).to(ACC)
                # Welford's running mean and sum of squares, lane by lane.
                seen += tl.where(ok, 1.0, 0.0)
                delta = tl.where(ok, v - mean, 0.0)
                mean += delta / tl.maximum(seen, 1.0)
                square += delta * (v - mean)
            centre = tl.sum(seen * mean, 0) / count
            var = (tl.sum(square, 0) + tl.sum(seen * (mean - centre) * (mean - centre), 0)) / count
            inv_std = 1.0 / tl.sqrt(var + eps)
            weight = tl.load(weights[t] + channel, mask=weighted[t] != 0, other=1.0).to(ACC)
            scale = inv_std * weight
            tl.store(statistics + pid, centre)
            tl.store(statistics + total + pid, inv_std)
            tl.store(statistics + 2 * total + pid, scale)
            tl.store(statistics + 3 * total + pid, -centre * scale)
            if TRACK:
                unbiased = var * count / tl.maximum(count - 1, 1)
                old_mean = tl.load(means[t] + channel).to(ACC)
                old_var = tl.load(variances[t] + channel).to(ACC)
                tl.store(means[t] + channel, old_mean + momentum * (centre - old_mean))
                tl.store(variances[t] + channel, old_var + momentum * (unbiased - old_var))
            if t == 0:  # noqa: SIM102 (decided when it is built, the other one when it runs)
                if channel < on:
                    for start in range(0, count, BLOCK):
                        at = start + lanes
                        ok = at < count
                        n, p = at // pixels, at % pixels
                        v = tl.load(maps[t] + _address(n, channels[t], channel, pixels, p), mask=ok, other=0.0).to(ACC)
                        place = _address(channel // width * images + n, width, channel % width, pixels, p)
                        tl.store(rectified + place, tl.maximum((v - centre) * inv_std, 0.0), mask=ok)
        begin += channels[t]


@triton.jit
def rectify(source, means, stds, out, channels, width, images, pixels, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """relu of normalised channels, once more; one instance a plane of `out`, (k, n, width, h, w)."""
    pid = tl.program_id(0)
    within = pid % width
    n = pid // width % images
    channel = pid // width // images * width + within
    mean, inv_std = tl.load(means + channel).to(ACC), tl.load(stds + channel).to(ACC)
    for start in range(0, pixels, BLOCK):
        p = start + tl.arange(0, BLOCK)
        ok = p < pixels
        v = tl.load(source + _address(n, channels, channel, pixels, p), mask=ok, other=0.0).to(ACC)
        tl.store(out + pid.to(tl.int64) * pixels + p, tl.maximum((v - mean) * inv_std, 0.0), mask=ok)


@triton.jit
def weigh(
    maps, scales, shifts, channels, skipped, summands, shared, shared_scales, shared_shifts, normed, factors,
    averaged, average_factors, outs, per_edge, height, columns,
    MAPS: tl.constexpr, SHARED: tl.constexpr, AVERAGED: tl.constexpr, EDGES: tl.constexpr,
    BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Each edge's sum: normalised maps times mixing weights, shared maps, and averages.

    One instance a plane of the sums, (n, e, c).
    """
    pid = tl.program_id(0)
    pixels = height * columns
    width = EDGES * per_edge
    n, channel = pid // width, pid % width
    edge, within = channel // per_edge, channel % per_edge
    for start in range(0, pixels, BLOCK):
        p = start + tl.arange(0, BLOCK)
        ok = p < pixels
        acc = tl.zeros((BLOCK,), ACC)
        for t in tl.static_range(MAPS):
            for k in range(skipped[t], skipped[t] + summands[t]):
                own = k * width + channel
                scale, shift = tl.load(scales[t] + own).to(ACC), tl.load(shifts[t] + own).to(ACC)
                v = tl.load(maps[t] + _address(n, channels[t], own, pixels, p), mask=ok, other=0.0).to(ACC)
                acc += v * scale + shift
        place = _address(n, per_edge, within, pixels, p)
        for s in tl.static_range(SHARED):
            scale = tl.load(shared_scales[s] + within, mask=normed[s] != 0, other=1.0).to(ACC)
            shift = tl.load(shared_shifts[s] + within, mask=normed[s] != 0, other=0.0).to(ACC)
            v = tl.load(shared[s] + place, mask=ok, other=0.0).to(ACC)
            acc += (v * scale + shift) * tl.load(factors[s] + edge).to(ACC)
        if AVERAGED:
            row, column = p // columns, p % columns
            sums, near = tl.zeros((BLOCK,), ACC), tl.zeros((BLOCK,), ACC)
            for down in tl.static_range(3):
                for right in tl.static_range(3):
                    r, q = row + down - 1, column + right - 1
                    inside = ok & (r >= 0) & (r < height) & (q >= 0) & (q < columns)
                    other = _address(n, per_edge, within, pixels, r * columns + q)
                    sums += tl.load(averaged + other, mask=inside, other=0.0).to(ACC)
                    near += tl.where(inside, 1.0, 0.0)
            acc += sums / tl.maximum(near, 1.0) * tl.load(average_factors + edge).to(ACC)
        for j in tl.static_range(EDGES):
            tl.store(outs[j] + place, acc, mask=ok & (edge == j))


@triton.jit
def normalise_backward(
    grad, maps, means, stds, weights, channels, on, sources, outs, dots, width, images, pixels,
    SOURCES: tl.constexpr, WANTED: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Back through normalisations: w/std * (g - mean(g) - x_hat * mean(g * x_hat)), and sum(g * x_hat) as `dots`.

    g is the sums' gradient; for the first `on` channels of the first map that of what was rectified, where it was
    positive. One instance a channel.
    """
    pid = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    count = images * pixels
    first = 0
    for t in tl.static_range(len(maps)):
        if (pid >= first) & (pid < first + channels[t]):
            channel = pid - first
            goes_on = (channel < on) & (t == 0)
            mean, inv_std = tl.load(means[t] + channel).to(ACC), tl.load(stds[t] + channel).to(ACC)
            weight = tl.load(weights[t] + channel).to(ACC)
            sums, products = tl.zeros((BLOCK,), ACC), tl.zeros((BLOCK,), ACC)
            for start in range(0, count, BLOCK):
                at = start + lanes
                ok = at < count
                n, p = at // pixels, at % pixels
                place = _address(n, width, channel % width, pixels, p)
                g = tl.load(grad + place, mask=ok & (goes_on == 0), other=0.0).to(ACC)
                v = tl.load(maps[t] + _address(n, channels[t], channel, pixels, p), mask=ok, other=0.0).to(ACC)
                normed = tl.where(ok, (v - mean) * inv_std, 0.0)
                if t == 0:
                    for j in tl.static_range(SOURCES):
                        mine = ok & goes_on & (channel // width == j) & (normed > 0)
                        g += tl.load(sources[j] + place, mask=mine, other=0.0).to(ACC)
                sums += g
                products += g * normed
            dot = tl.sum(products, 0)
            tl.store(dots + pid, dot)
            if WANTED:
                shift, slope, scale = tl.sum(sums, 0) / count, dot / count, weight * inv_std
                for start in range(0, count, BLOCK):
                    at = start + lanes
                    ok = at < count
                    n, p = at // pixels, at % pixels
                    place = _address(n, width, channel % width, pixels, p)
                    own = _address(n, channels[t], channel, pixels, p)
                    g = tl.load(grad + place, mask=ok & (goes_on == 0), other=0.0).to(ACC)
                    v = tl.load(maps[t] + own, mask=ok, other=0.0).to(ACC)
                    normed = tl.where(ok, (v - mean) * inv_std, 0.0)
                    if t == 0:
                        for j in tl.static_range(SOURCES):
                            mine = ok & goes_on & (channel // width == j) & (normed > 0)
                            g += tl.load(sources[j] + place, mask=mine, other=0.0).to(ACC)
                    tl.store(outs[t] + own, scale * (g - shift - normed * slope), mask=ok)
        first += channels[t]


@triton.jit
def shared_backward(
    grad, factors, maps, means, stds, outs, per_edge, images, pixels,
    EDGES: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Back through mixing weights and normalisation of maps that all edges add; one instance a map and channel."""
    pid = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    count = images * pixels
    width = EDGES * per_edge
    channel = pid % per_edge
    for t in tl.static_range(len(maps)):
        if pid // per_edge == t:
            mean, inv_std = tl.load(means[t] + channel).to(ACC), tl.load(stds[t] + channel).to(ACC)
            sums, products = tl.zeros((BLOCK,), ACC), tl.zeros((BLOCK,), ACC)
            for start in range(0, count, BLOCK):
                at = start + lanes
                ok = at < count
                n, p = at // pixels, at % pixels
                g = tl.zeros((BLOCK,), ACC)
                for e in tl.static_range(EDGES):
                    place = _address(n, width, e * per_edge + channel, pixels, p)
                    g += tl.load(grad + place, mask=ok, other=0.0).to(ACC) * tl.load(factors[t] + e).to(ACC)
                v = tl.load(maps[t] + _address(n, per_edge, channel, pixels, p), mask=ok, other=0.0).to(ACC)
                sums += g
                products += g * tl.where(ok, (v - mean) * inv_std, 0.0)
            shift, slope = tl.sum(sums, 0) / count, tl.sum(products, 0) / count
            for start in range(0, count, BLOCK):
                at = start + lanes
                ok = at < count
                n, p = at // pixels, at % pixels
                g = tl.zeros((BLOCK,), ACC)
                for e in tl.static_range(EDGES):
                    place = _address(n, width, e * per_edge + channel, pixels, p)
                    g += tl.load(grad + place, mask=ok, other=0.0).to(ACC) * tl.load(factors[t] + e).to(ACC)
                own = _address(n, per_edge, channel, pixels, p)
                v = tl.load(maps[t] + own, mask=ok, other=0.0).to(ACC)
                tl.store(outs[t] + own, inv_std * (g - shift - (v - mean) * inv_std * slope), mask=ok)


@triton.jit
def gather(
    of_relu, active, parts, grad, carried_factors, average_factors, out, per_edge, height, columns,
    RELU: tl.constexpr, PARTS: tl.constexpr, CARRIED: tl.constexpr, AVERAGED: tl.constexpr, EDGES: tl.constexpr,
    BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A node's gradient: through the ReLU, of pooled maps, of itself and its averages; one instance a plane."""
    pid = tl.program_id(0)
    pixels = height * columns
    n, channel = pid // per_edge, pid % per_edge
    width = EDGES * per_edge
    for start in range(0, pixels, BLOCK):
        p = start + tl.arange(0, BLOCK)
        ok = p < pixels
        place = _address(n, per_edge, channel, pixels, p)
        acc = tl.zeros((BLOCK,), ACC)
        if RELU > 0:
            positive = ok & (tl.load(active + place, mask=ok, other=0.0) > 0)
            for t in tl.static_range(RELU):
                acc += tl.load(of_relu[t] + place, mask=positive, other=0.0).to(ACC)
        for t in tl.static_range(PARTS):
            acc += tl.load(parts[t] + place, mask=ok, other=0.0).to(ACC)
        for e in tl.static_range(EDGES):
            if CARRIED:
                g = tl.load(grad + _address(n, width, e * per_edge + channel, pixels, p), mask=ok, other=0.0).to(ACC)
                acc += g * tl.load(carried_factors + e).to(ACC)
            if AVERAGED:
                row, column = p // columns, p % columns
                sums = tl.zeros((BLOCK,), ACC)
                for down in tl.static_range(3):
                    for right in tl.static_range(3):
                        r, q = row + down - 1, column + right - 1
                        inside = ok & (r >= 0) & (r < height) & (q >= 0) & (q < columns)
                        # As many pixels as the other one's window has, itself and its neighbours.
                        high = 3 - tl.where(r == 0, 1, 0) - tl.where(r == height - 1, 1, 0)
                        wide = 3 - tl.where(q == 0, 1, 0) - tl.where(q == columns - 1, 1, 0)
                        other = _address(n, width, e * per_edge + channel, pixels, r * columns + q)
                        g = tl.load(grad + other, mask=inside, other=0.0).to(ACC)
                        sums += g / (high * wide).to(ACC)
                acc += sums * tl.load(average_factors + e).to(ACC)
        tl.store(out + place, acc, mask=ok)
