"""One step, its gradient and the living mask as Triton kernels; only triton.py calls them.

A program takes a block of cells of one model, counted row by row through its samples; the second
axis of a launch are the models, M, whose samples lie one after the other. What a cell reads of its
neighbours comes from the caches; percepts and the hidden layer never leave the program. Axes of a
block are powers of two: N cells, CP channels, FP filters, P = FP * CP percepts with the channels
of a filter adjacent, and hidden units UNITS at a time. Weights come padded with zeros, and the last
block repeats the last cell, so that only channels need masks when they are read.
"""

# What is compiled gets constants as plain numbers and words, and its loops are not Python's.
# pyright: reportArgumentType=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

# Numbers that change from call to call, or from picture to picture, need no code of their own.
_ANY = ["step", "count", "height", "width", "stride_y", "stride_x", "channel"]

_LEAST_STEEP = tl.constexpr(1e-8)  # of the square of a gradient's norm: it has to have a slope


@triton.jit
def _cell(index, count):
    """Count a model's ``count`` cells on from those of the models before it."""
    return tl.program_id(1) * count + tl.minimum(index, count - 1)


@triton.jit
def _beyond(index, size, EDGE: tl.constexpr, REACH: tl.constexpr):
    """Which cell of an axis stands at ``index``, up to REACH outside, and whether there is one."""
    there = index == index
    if EDGE == "torus":
        index = (index + size * REACH) % size
    elif EDGE == "replicate":
        index = tl.minimum(tl.maximum(index, 0), size - 1)
    elif EDGE == "reflect":
        period = tl.maximum(2 * (size - 1), 1)
        index = (index + period * REACH) % period
        index = tl.minimum(index, period - index)
    else:
        there = (index >= 0) & (index < size)
    return index, there


@triton.jit
def _offset(sample, y, x, height, width, C: tl.constexpr):
    """Where the numbers of a cell begin; a state may hold more than 2**31 of them."""
    return ((sample * height + y) * width + x).to(tl.int64) * C


@triton.jit
def _clamp(x, LIMIT: tl.constexpr):
    if LIMIT is not None:
        x = tl.clamp(x, -LIMIT, LIMIT, propagate_nan=tl.PropagateNan.ALL)
    return x


@triton.jit
def _hidden(x, MOST: tl.constexpr):
    """Clamp to [0, MOST]; what is no number stays so, as in the reference."""
    x = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if MOST is not None:
        x = tl.minimum(x, MOST, propagate_nan=tl.PropagateNan.ALL)
    return x


@triton.jit
def _dot(a, b, PRECISION: tl.constexpr):
    """Multiply matrices in the precision asked for, and add in float32."""
    if PRECISION == "bfloat16":
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    if PRECISION == "float16":
        return tl.dot(a.to(tl.float16), b.to(tl.float16))
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _gradient_dot(a, b, PRECISION: tl.constexpr):
    """Multiply matrices of which one is a gradient: in float16 small ones would vanish.

    TF32 has the digits of float16 and the range of float32.
    """
    if PRECISION == "float16":
        return tl.dot(a, b, input_precision="tf32")
    return _dot(a, b, PRECISION)


@triton.jit
def _accumulate(pointer, value):
    """Add to numbers that belong to this program alone."""
    tl.store(pointer, tl.load(pointer) + value)


@triton.jit
def _neighbour(
    state,
    tap,
    sample,
    y,
    x,
    height,
    width,
    EDGE_Y: tl.constexpr,
    EDGE_X: tl.constexpr,
    C: tl.constexpr,
    CP: tl.constexpr,
    K: tl.constexpr,
):
    """Read what stands at one place of every cell's window: [N, CP]."""
    row, there_y = _beyond(y + (tap // K - K // 2), height, EDGE_Y, K)
    column, there_x = _beyond(x + (tap % K - K // 2), width, EDGE_X, K)
    channel = tl.arange(0, CP)
    at = _offset(sample, row, column, height, width, C)
    there = (there_y & there_x)[:, None] & (channel < C)[None, :]
    return tl.load(state + at[:, None] + channel[None, :], mask=there, other=0.0)


@triton.jit
def _filters(
    filters, tap, odd, FP: tl.constexpr, CP: tl.constexpr, K: tl.constexpr, R: tl.constexpr
):
    """Read what one place of the window weighs, by the parity of the row: [N or 1, FP, CP]."""
    at = tap * FP * CP + tl.arange(0, FP)[:, None] * CP + tl.arange(0, CP)[None, :]
    weight = tl.load(filters + at)[None, :, :]
    if R == 2:
        other = tl.load(filters + K * K * FP * CP + at)[None, :, :]
        weight = tl.where(odd[:, None, None], other, weight)
    return weight


@triton.jit
def _perceive(
    state,
    filters,
    sample,
    y,
    x,
    odd,
    height,
    width,
    EDGE_Y: tl.constexpr,
    EDGE_X: tl.constexpr,
    C: tl.constexpr,
    CP: tl.constexpr,
    FP: tl.constexpr,
    K: tl.constexpr,
    R: tl.constexpr,
    N: tl.constexpr,
):
    """Filter the windows of N cells: [N, P], not yet limited."""
    percept = tl.zeros([N, FP, CP], tl.float32)
    for tap in range(K * K):  # unrolled it would need more registers than there are
        seen = _neighbour(state, tap, sample, y, x, height, width, EDGE_Y, EDGE_X, C, CP, K)
        percept += seen[:, None, :] * _filters(filters, tap, odd, FP, CP, K, R)
    return tl.reshape(percept, [N, FP * CP])


@triton.jit
def _gradients(apart, FP: tl.constexpr, FIRST: tl.constexpr):
    """Take the filters FIRST and the next out of [N, FP, CP]: twice [N, CP]."""
    number = tl.arange(0, FP)[None, :, None]
    x = tl.sum(tl.where(number == FIRST, apart, 0.0), 1)
    y = tl.sum(tl.where(number == FIRST + 1, apart, 0.0), 1)
    return x, y


@triton.jit
def _with_gradients(apart, x, y, FP: tl.constexpr, FIRST: tl.constexpr):
    """Put two of [N, CP] into [N, FP, CP] where ``_gradients`` finds them."""
    number = tl.arange(0, FP)[None, :, None]
    apart = tl.where(number == FIRST, x[:, None, :], apart)
    return tl.where(number == FIRST + 1, y[:, None, :], apart)


@triton.jit
def _direction(state, at, MORTAL: tl.constexpr):
    """Read cosine and sine of the angle that a cell holds in the last channel of its own."""
    angle = tl.load(state + at + (MORTAL - 1))
    return tl.cos(angle)[:, None], tl.sin(angle)[:, None]


@triton.jit
def _combine(
    seen,
    state,
    at,
    COMBINE: tl.constexpr,
    FIRST: tl.constexpr,
    MORTAL: tl.constexpr,
    CP: tl.constexpr,
    FP: tl.constexpr,
    N: tl.constexpr,
):
    """Make of the two gradients of ``seen`` [N, P], FIRST and the next, what no turn changes.

    ``norm``: how steep it is, and nothing. ``steer``: both along and across the cell's direction;
    ``at`` [N] is where the cells begin.
    """
    if COMBINE == "plain":
        return seen
    apart = tl.reshape(seen, [N, FP, CP])
    x, y = _gradients(apart, FP, FIRST)
    if COMBINE == "norm":
        steep = tl.sqrt_rn(x * x + y * y + _LEAST_STEEP)
        apart = _with_gradients(apart, steep, tl.zeros_like(x), FP, FIRST)
    else:
        c, s = _direction(state, at, MORTAL)
        apart = _with_gradients(apart, c * x + s * y, c * y - s * x, FP, FIRST)
    return tl.reshape(apart, [N, FP * CP])


@triton.jit
def _combine_back(
    back,
    seen,
    state,
    at,
    COMBINE: tl.constexpr,
    FIRST: tl.constexpr,
    MORTAL: tl.constexpr,
    CP: tl.constexpr,
    FP: tl.constexpr,
    N: tl.constexpr,
):
    """Bring gradients of what was combined back to ``seen`` [N, P], and to the angle [N]."""
    apart = tl.reshape(back, [N, FP, CP])
    x, y = _gradients(tl.reshape(seen, [N, FP, CP]), FP, FIRST)
    along, across = _gradients(apart, FP, FIRST)
    if COMBINE == "norm":
        share = tl.div_rn(along, tl.sqrt_rn(x * x + y * y + _LEAST_STEEP))
        turn = tl.zeros([N], tl.float32)
        apart = _with_gradients(apart, share * x, share * y, FP, FIRST)
    else:
        c, s = _direction(state, at, MORTAL)
        turn = tl.sum(along * (c * y - s * x) - across * (c * x + s * y), 1)
        apart = _with_gradients(apart, c * along - s * across, s * along + c * across, FP, FIRST)
    return tl.reshape(apart, [N, FP * CP]), turn


@triton.jit
def _limit(percept, P: tl.constexpr, CP: tl.constexpr, LIMIT: tl.constexpr, ABS: tl.constexpr):
    """Clamp percepts; the first filter of an abs rule is the cell itself, which is none."""
    limited = _clamp(percept, LIMIT)
    if ABS:
        limited = tl.where((tl.arange(0, P) < CP)[None, :], percept, limited)
    return limited


@triton.jit
def _rule(
    percept,
    first,
    bias,
    last,
    bias_out,
    ABS: tl.constexpr,
    P: tl.constexpr,
    CP: tl.constexpr,
    HIDDEN: tl.constexpr,
    UNITS: tl.constexpr,
    MOST: tl.constexpr,
    PRECISION: tl.constexpr,
    N: tl.constexpr,
):
    """Turn percepts [N, P] into updates [N, CP], not yet limited."""
    into = tl.arange(0, P)[:, None]
    out = tl.arange(0, CP)[None, :]
    if ABS:
        update = _dot(percept, tl.load(first + into * CP + out), PRECISION)
        update += _dot(tl.abs(percept), tl.load(first + (P + into) * CP + out), PRECISION)
    else:
        update = tl.zeros([N, CP], tl.float32)
        for start in range(0, HIDDEN, UNITS):
            unit = start + tl.arange(0, UNITS)
            hidden = _dot(percept, tl.load(first + into * HIDDEN + unit[None, :]), PRECISION)
            hidden = _hidden(hidden + tl.load(bias + unit)[None, :], MOST)
            update += _dot(hidden, tl.load(last + unit[:, None] * CP + out), PRECISION)
    return update + tl.load(bias_out + out)


@triton.jit
def _fires(seeds, step, rows, columns, limits, stride_y, stride_x, sample, y, x):
    """Decide which cells fire, by pcg4d of (column, row, step, seed); see noise.py."""
    a = tl.load(columns + x).to(tl.uint32) * 1664525 + 1013904223
    b = tl.load(rows + y).to(tl.uint32) * 1664525 + 1013904223
    c = (step + tl.zeros_like(y)).to(tl.uint32) * 1664525 + 1013904223
    d = tl.load(seeds + sample).to(tl.uint32) * 1664525 + 1013904223
    a += b * d
    b += c * a
    c += a * b
    d += b * c
    a ^= a >> 16
    b ^= b >> 16
    c ^= c >> 16
    d ^= d >> 16
    a += b * d
    limit = tl.load(limits + y * stride_y + x * stride_x)
    return (a >> 8).to(tl.int32) < limit


@triton.jit(do_not_specialize=_ANY)
def step_forward(
    before,  # [B, H, W, C]
    after,  # the same, written
    filters,  # [M, R, K*K, FP, CP]
    first,  # [M, P, HIDDEN]; abs: [M, 2, P, CP]
    bias,  # [M, HIDDEN]
    last,  # [M, HIDDEN, CP]
    bias_out,  # [M, CP]; abs: its only bias
    rows,  # [H]
    columns,  # [W]
    seeds,  # [B]
    limits,  # [H, W], with strides
    step,
    dt,
    count,  # of a model's cells
    height,
    width,
    stride_y,
    stride_x,
    EDGE_Y: tl.constexpr,
    EDGE_X: tl.constexpr,
    ABS: tl.constexpr,
    C: tl.constexpr,
    CP: tl.constexpr,
    FP: tl.constexpr,
    K: tl.constexpr,
    R: tl.constexpr,
    COMBINE: tl.constexpr,
    HIDDEN: tl.constexpr,
    UNITS: tl.constexpr,
    PERCEPT_LIMIT: tl.constexpr,
    HIDDEN_LIMIT: tl.constexpr,
    UPDATE_LIMIT: tl.constexpr,
    STATE_LIMIT: tl.constexpr,
    MORTAL: tl.constexpr,
    PRECISION: tl.constexpr,
    N: tl.constexpr,
):
    """Take one step of N cells."""
    P: tl.constexpr = FP * CP
    FIRST: tl.constexpr = 2 if ABS else 1  # of the two gradients
    model = tl.program_id(1)
    filters += model * R * K * K * P
    if ABS:
        first += model * 2 * P * CP
    else:
        first += model * P * HIDDEN
        bias += model * HIDDEN
        last += model * HIDDEN * CP
    bias_out += model * CP
    index = tl.program_id(0) * N + tl.arange(0, N)
    cell = _cell(index, count)
    x = cell % width
    y = cell // width % height
    sample = cell // width // height
    odd = (tl.load(rows + y) & 1) == 1
    percept = _perceive(
        before, filters, sample, y, x, odd, height, width, EDGE_Y, EDGE_X, C, CP, FP, K, R, N
    )
    home = _offset(sample, y, x, height, width, C)
    percept = _combine(percept, before, home, COMBINE, FIRST, MORTAL, CP, FP, N)
    percept = _limit(percept, P, CP, PERCEPT_LIMIT, ABS)
    update = _rule(
        percept, first, bias, last, bias_out, ABS, P, CP, HIDDEN, UNITS, HIDDEN_LIMIT, PRECISION, N
    )
    fire = _fires(seeds, step, rows, columns, limits, stride_y, stride_x, sample, y, x)
    update = tl.where(fire[:, None], _clamp(update, UPDATE_LIMIT) * dt, 0.0)
    channel = tl.arange(0, CP)[None, :]
    at = home[:, None] + channel
    old = tl.load(before + at, mask=channel < C, other=0.0)
    new = _clamp(old + update, STATE_LIMIT)
    tl.store(after + at, new, mask=(index < count)[:, None] & (channel < C))


@triton.jit
def _most_alive(
    state,
    channel,
    sample,
    y,
    x,
    odd,
    height,
    width,
    EDGE_Y: tl.constexpr,
    EDGE_X: tl.constexpr,
    C: tl.constexpr,
    R: tl.constexpr,
):
    """Find the greatest value of ``channel`` in the cell and its neighbours: [N]."""
    most = tl.load(state + _offset(sample, y, x, height, width, C) + channel)
    for tap in tl.static_range(9):
        row, there_y = _beyond(y + (tap // 3 - 1), height, EDGE_Y, 3)
        column, there_x = _beyond(x + (tap % 3 - 1), width, EDGE_X, 3)
        at = state + _offset(sample, row, column, height, width, C) + channel
        value = tl.load(at, mask=there_y & there_x, other=0.0)
        if R == 2 and tap // 3 != 1:  # hexagons: odd rows lie half a cell to the right
            if tap % 3 == 0:
                value = tl.where(odd, most, value)
            if tap % 3 == 2:
                value = tl.where(odd, value, most)
        most = tl.maximum(most, value, propagate_nan=tl.PropagateNan.ALL)
    return most


@triton.jit(do_not_specialize=_ANY)
def keep_living(
    before,  # [B, H, W, C]
    grown,  # the same, one step older
    after,  # the same, written: what of it lives
    alive,  # [B, H, W] bool, written
    rows,
    channel,
    threshold,
    count,
    height,
    width,
    EDGE_Y: tl.constexpr,
    EDGE_X: tl.constexpr,
    C: tl.constexpr,
    CP: tl.constexpr,
    R: tl.constexpr,
    MORTAL: tl.constexpr,
    STATE_LIMIT: tl.constexpr,
    N: tl.constexpr,
):
    """Clear cells that had or have no living neighbour, then limit the state.

    Channels from ``MORTAL`` on are held: they are not cleared.
    """
    index = tl.program_id(0) * N + tl.arange(0, N)
    cell = _cell(index, count)
    x = cell % width
    y = cell // width % height
    sample = cell // width // height
    odd = (tl.load(rows + y) & 1) == 1
    most = _most_alive(before, channel, sample, y, x, odd, height, width, EDGE_Y, EDGE_X, C, R)
    now = _most_alive(grown, channel, sample, y, x, odd, height, width, EDGE_Y, EDGE_X, C, R)
    lives = (most > threshold) & (now > threshold)
    tl.store(alive + cell, lives, mask=index < count)
    each = tl.arange(0, CP)[None, :]
    at = _offset(sample, y, x, height, width, C)[:, None] + each
    kept = tl.where(each < MORTAL, lives.to(tl.float32)[:, None], 1.0)
    new = tl.load(grown + at, mask=each < C, other=0.0) * kept
    tl.store(after + at, _clamp(new, STATE_LIMIT), mask=(index < count)[:, None] & (each < C))


@triton.jit(do_not_specialize=_ANY)
def step_backward(
    before,
    alive,  # [B, H, W] bool, read when LIVING
    gradient,  # [B, H, W, C] of the state after the step
    to_cells,  # the same, written: what reaches the cell itself past the update
    to_percepts,  # [B, H, W, FP, CP], written: what reaches its percepts
    to_filters,  # [M, programs, R, K*K, FP, CP], added to when LEARNED
    to_first,  # [M, programs, ...], added to, as are the next
    to_bias,
    to_last,
    to_bias_out,
    filters,
    first,
    bias,
    last,
    bias_out,
    rows,
    columns,
    seeds,
    limits,
    step,
    dt,
    count,
    height,
    width,
    stride_y,
    stride_x,
    EDGE_Y: tl.constexpr,
    EDGE_X: tl.constexpr,
    ABS: tl.constexpr,
    C: tl.constexpr,
    CP: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    K: tl.constexpr,
    R: tl.constexpr,
    COMBINE: tl.constexpr,
    HIDDEN: tl.constexpr,
    UNITS: tl.constexpr,
    PERCEPT_LIMIT: tl.constexpr,
    HIDDEN_LIMIT: tl.constexpr,
    UPDATE_LIMIT: tl.constexpr,
    STATE_LIMIT: tl.constexpr,
    LIVING: tl.constexpr,
    MORTAL: tl.constexpr,
    LEARNED: tl.constexpr,
    PRECISION: tl.constexpr,
    N: tl.constexpr,
):
    """Make percepts and hidden layer anew and go back through them, block after block.

    Gradients of weights are added up in memory of this program's own, in the order of its blocks,
    so that a run can be repeated to the bit.
    """
    P: tl.constexpr = FP * CP
    FIRST: tl.constexpr = 2 if ABS else 1  # of the two gradients
    model = tl.program_id(1)
    block = tl.program_id(0)
    row = model * tl.num_programs(0) + block
    into = tl.arange(0, P)
    channel = tl.arange(0, CP)
    filters += model * R * K * K * P
    to_filters += row * R * K * K * P
    if ABS:
        first += model * 2 * P * CP
        to_first += row * 2 * P * CP
    else:
        first += model * P * HIDDEN
        to_first += row * P * HIDDEN
        bias += model * HIDDEN
        to_bias += row * HIDDEN
        last += model * HIDDEN * CP
        to_last += row * HIDDEN * CP
    bias_out += model * CP
    to_bias_out += row * CP
    while block * N < count:  # Triton 3.6 with NumPy 2.4 cannot interpret a range of such numbers
        index = block * N + tl.arange(0, N)
        cell = _cell(index, count)
        x = cell % width
        y = cell // width % height
        sample = cell // width // height
        odd = (tl.load(rows + y) & 1) == 1
        seen = _perceive(
            before, filters, sample, y, x, odd, height, width, EDGE_Y, EDGE_X, C, CP, FP, K, R, N
        )
        home = _offset(sample, y, x, height, width, C)
        raw = _combine(seen, before, home, COMBINE, FIRST, MORTAL, CP, FP, N)
        percept = _limit(raw, P, CP, PERCEPT_LIMIT, ABS)
        fire = _fires(seeds, step, rows, columns, limits, stride_y, stride_x, sample, y, x)
        inside = (index < count)[:, None] & (channel < C)[None, :]
        at = home[:, None] + channel[None, :]
        back = tl.load(gradient + at, mask=inside, other=0.0)
        lives = tl.full([N, CP], 1.0, tl.float32)
        if LIVING:
            lives = tl.load(alive + cell).to(tl.float32)[:, None]
            lives = tl.where((channel < MORTAL)[None, :], lives, 1.0)
        if UPDATE_LIMIT is not None or STATE_LIMIT is not None:
            update = _rule(
                percept,
                first,
                bias,
                last,
                bias_out,
                ABS,
                P,
                CP,
                HIDDEN,
                UNITS,
                HIDDEN_LIMIT,
                PRECISION,
                N,
            )
            if STATE_LIMIT is not None:
                new = tl.load(before + at, mask=inside, other=0.0)
                new += tl.where(fire[:, None], _clamp(update, UPDATE_LIMIT) * dt, 0.0)
                back = tl.where(tl.abs(new * lives) <= STATE_LIMIT, back, 0.0)
        back *= lives
        passed = back
        if COMBINE == "plain":
            tl.store(to_cells + at, passed, mask=inside)
        back = tl.where(fire[:, None], back * dt, 0.0)
        if UPDATE_LIMIT is not None:
            back = tl.where(tl.abs(update) <= UPDATE_LIMIT, back, 0.0)

        _accumulate(to_bias_out + channel, tl.sum(back, 0))
        if ABS:
            weight = into[:, None] * CP + channel[None, :]
            half = tl.load(first + weight)
            backwards = _gradient_dot(back, tl.trans(half), PRECISION)
            half = tl.load(first + P * CP + weight)
            sign = (percept > 0).to(tl.float32) - (percept < 0).to(tl.float32)
            backwards += sign * _gradient_dot(back, tl.trans(half), PRECISION)
            part = _gradient_dot(tl.trans(percept), back, PRECISION)
            _accumulate(to_first + weight, part)
            part = _gradient_dot(tl.trans(tl.abs(percept)), back, PRECISION)
            _accumulate(to_first + P * CP + weight, part)
        else:
            backwards = tl.zeros([N, P], tl.float32)
            for start in range(0, HIDDEN, UNITS):
                unit = start + tl.arange(0, UNITS)
                weight = into[:, None] * HIDDEN + unit[None, :]
                weights_in = tl.load(first + weight)
                hidden = _dot(percept, weights_in, PRECISION) + tl.load(bias + unit)[None, :]
                weight_out = unit[:, None] * CP + channel[None, :]
                each = _gradient_dot(back, tl.trans(tl.load(last + weight_out)), PRECISION)
                each = tl.where(hidden <= 0, 0.0, each)
                if HIDDEN_LIMIT is not None:
                    each = tl.where(hidden >= HIDDEN_LIMIT, 0.0, each)
                hidden = _hidden(hidden, HIDDEN_LIMIT)
                backwards += _gradient_dot(each, tl.trans(weights_in), PRECISION)
                part = _gradient_dot(tl.trans(percept), each, PRECISION)
                _accumulate(to_first + weight, part)
                part = _gradient_dot(tl.trans(hidden), back, PRECISION)
                _accumulate(to_last + weight_out, part)
                _accumulate(to_bias + unit, tl.sum(each, 0))
        if PERCEPT_LIMIT is not None:
            passes = tl.abs(raw) <= PERCEPT_LIMIT
            if ABS:
                passes = passes | (into < CP)[None, :]
            backwards = tl.where(passes, backwards, 0.0)
        if COMBINE != "plain":
            backwards, turn = _combine_back(
                backwards, seen, before, home, COMBINE, FIRST, MORTAL, CP, FP, N
            )
            passed += tl.where((channel == MORTAL - 1)[None, :], turn[:, None], 0.0)
            tl.store(to_cells + at, passed, mask=inside)
        used = ((into // CP < F) & (into % CP < C))[None, :]
        place = cell.to(tl.int64)[:, None] * P + into[None, :]
        tl.store(to_percepts + place, backwards, mask=(index < count)[:, None] & used)

        if LEARNED:
            apart = tl.reshape(backwards, [N, FP, CP])
            kernel = tl.arange(0, FP)[:, None] * CP + channel[None, :]
            for tap in range(K * K):
                neighbour = _neighbour(
                    before, tap, sample, y, x, height, width, EDGE_Y, EDGE_X, C, CP, K
                )
                of_tap = neighbour[:, None, :] * apart
                if R == 2:
                    own = tl.where(odd[:, None, None], of_tap, 0.0)
                    _accumulate(to_filters + (K * K + tap) * P + kernel, tl.sum(own, 0))
                    of_tap = tl.where(odd[:, None, None], 0.0, of_tap)
                _accumulate(to_filters + tap * P + kernel, tl.sum(of_tap, 0))
        block += tl.num_programs(0)
        tl.debug_barrier()  # sums are read in the next round, by other threads perhaps


@triton.jit(do_not_specialize=_ANY)
def gather_percepts(
    to_percepts,  # [B, H, W, FP, CP]
    to_cells,  # [B, H, W, C], added to
    filters,
    rows,
    count,
    height,
    width,
    EDGE_Y: tl.constexpr,
    EDGE_X: tl.constexpr,
    C: tl.constexpr,
    CP: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    K: tl.constexpr,
    R: tl.constexpr,
    N: tl.constexpr,
):
    """Bring gradients of percepts back to the cells that were seen.

    A cell asks all who saw it, which needs their gradients in memory, but no atomic addition: sums
    have one order. Beyond a reflecting or replicating edge it stands once more, as an image, and
    has to ask around that place too; blocks without such cells pass over it.
    """
    P: tl.constexpr = FP * CP
    REACH: tl.constexpr = K // 2
    # On other edges a cell has one place only: K places are itself and REACH beyond either end.
    PLACES_Y: tl.constexpr = K if EDGE_Y == "reflect" or EDGE_Y == "replicate" else 1
    PLACES_X: tl.constexpr = K if EDGE_X == "reflect" or EDGE_X == "replicate" else 1
    ASKED_Y: tl.constexpr = "torus" if EDGE_Y == "torus" else "zero"
    ASKED_X: tl.constexpr = "torus" if EDGE_X == "torus" else "zero"
    filters += tl.program_id(1) * R * K * K * P
    index = tl.program_id(0) * N + tl.arange(0, N)
    cell = _cell(index, count)
    x = cell % width
    y = cell // width % height
    sample = cell // width // height
    channel = tl.arange(0, CP)
    total = tl.zeros([N, CP], tl.float32)
    for place in range(PLACES_Y * PLACES_X):
        place_y, here_y = _image(place // PLACES_X, y, height, EDGE_Y, REACH)
        place_x, here_x = _image(place % PLACES_X, x, width, EDGE_X, REACH)
        here = here_y & here_x
        if tl.max(here.to(tl.int32), 0) > 0:
            for tap in tl.static_range(K * K):
                row, there_y = _beyond(place_y - (tap // K - REACH), height, ASKED_Y, K)
                column, there_x = _beyond(place_x - (tap % K - REACH), width, ASKED_X, K)
                there = here & there_y & there_x
                odd = (tl.load(rows + row, mask=there, other=0) & 1) == 1
                at = to_percepts + _offset(sample, row, column, height, width, P)[:, None]
                mask = there[:, None] & (channel < C)[None, :]
                for f in tl.static_range(F):
                    kernel = filters + (tap * FP + f) * CP + channel
                    weight = tl.load(kernel)[None, :]
                    if R == 2:
                        other = tl.load(kernel + K * K * P)[None, :]
                        weight = tl.where(odd[:, None], other, weight)
                    back = tl.load(at + (f * CP + channel)[None, :], mask=mask, other=0.0)
                    total += back * weight
    inside = (index < count)[:, None] & (channel < C)[None, :]
    at = to_cells + _offset(sample, y, x, height, width, C)[:, None] + channel[None, :]
    tl.store(at, tl.load(at, mask=inside, other=0.0) + total, mask=inside)


@triton.jit
def _image(place, index, size, EDGE: tl.constexpr, REACH: tl.constexpr):
    """Where the ``place``-th image of a cell stands on an axis, and which cells have one there."""
    beyond = tl.where(place <= REACH, place - 1 - REACH, size + place - 1 - REACH)
    shown, _ = _beyond(beyond, size, EDGE, 2 * REACH + 1)
    return tl.where(place == 0, index, beyond), (place == 0) | (shown == index)
