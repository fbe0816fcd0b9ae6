// The same in WebGPU: states are buffers of vectors of four channels, [group][row][column], steps
// are compute shaders.

const WGSL_HEAD = `
struct World {
  size: vec2i, edges: vec2i,
  chance: vec2u, // step, seed
  fireLimit: u32, own: i32,
  turned: vec2f, inverse: vec2f,
  dt: f32, hex: f32, mixed: u32, mortal: u32,
  taps: array<vec4f, 18>,
  streams: array<vec4u, ${GROUPS}>, // of chance for each number, not for each cell
  owns: array<vec4u, ${MODELS.length}>, // channels that a model changes; others do not die
}
struct View {
  corner: vec2f, pixel: f32, cells: u32,
  paper: vec3f, straight: u32,
  desk: vec3f, unused: u32,
  looks: array<vec4f, ${MODELS.length}>,
}
struct Brush {
  stroke: vec4f,
  radius: f32,
  // Of each group of channels: how much stays, what is put there, how much noise is added.
  keep: array<vec4f, ${GROUPS}>, fill: array<vec4f, ${GROUPS}>, noise: array<vec4f, ${GROUPS}>,
  streams: array<vec4u, ${GROUPS}>,
}
fn along(at: i32, n: i32, edge: i32) -> i32 { // where what lies there is stored; -1 is nowhere
  if (at >= 0 && at < n) { return at; }
  if (edge == 0) { return ((at % n) + n) % n; }
  if (edge == 1) { return -1; }
  if (edge == 3) { return clamp(at, 0, n - 1); }
  let turn = max(2 * (n - 1), 1);
  let i = ((at % turn) + turn) % turn;
  return min(i, turn - i);
}
fn beyond(at: vec2i) -> vec2i {
  return vec2i(along(at.x, world.size.x, world.edges.x), along(at.y, world.size.y, world.edges.y));
}
// The same for what lies at most one cell outside, without a division.
fn beside(at: i32, n: i32, edge: i32) -> i32 {
  if (at >= 0 && at < n) { return at; }
  if (edge == 0) { return select(0, n - 1, at < 0); }
  if (edge == 1) { return -1; }
  if (edge == 3) { return select(n - 1, 0, at < 0); }
  return select(max(n - 2, 0), min(1, n - 1), at < 0);
}
fn place(at: vec2i, group: i32) -> i32 {
  return (group * world.size.y + at.y) * world.size.x + at.x;
}
fn rowHeight() -> f32 { return mix(1.0, 0.8660254, world.hex); }
fn rowShift(row: i32) -> f32 { return select(-0.25, 0.25, (row & 1) == 1) * world.hex; }
`;

const WGSL_PCG = `
fn pcg4d(seed: vec4u) -> vec4u {
  var v = seed * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> vec4u(16u);
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v;
}
`;

const WGSL_BUFFERS = `
@group(0) @binding(0) var<uniform> world: World;
@group(0) @binding(1) var<storage, read> state: array<vec4f>;
@group(0) @binding(2) var<storage, read> control: array<u32>; // model, speed, cosine, sine
@group(0) @binding(3) var<storage, read_write> target_: array<vec4f>;
`;

// Whether a cell of this model acts in this step; `bits` are its chance.
const WGSL_ACTS = `
fn localOf(cell: vec2i) -> vec4f { return unpack4x8unorm(control[place(cell, 0)]) * 255.0; }
fn isOwn(local: vec4f) -> bool { return world.mixed == 0u || i32(local.x + 0.5) == world.own; }
fn share(local: vec4f) -> u32 {
  return select(u32(f32(world.fireLimit) * local.y / 255.0), world.fireLimit, local.y > 254.5);
}
fn bitsOf(cell: vec2i) -> vec4u { return pcg4d(vec4u(vec2u(cell), world.chance)); }
`;

// Which cells act, as in WebGL: a bit for each, 32 in a word; then, for each row, each word and how
// many cells act before it, and behind the last word how many do.
const wgslWords = () => `${WGSL_HEAD}${WGSL_PCG}
@group(0) @binding(0) var<uniform> world: World;
@group(0) @binding(2) var<storage, read> control: array<u32>;
@group(0) @binding(5) var<storage, read_write> ranks: array<vec2u>;
${WGSL_ACTS}
@compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) id: vec3u) {
  let count = (world.size.x + 31) / 32;
  if (i32(id.x) >= count || i32(id.y) >= world.size.y) { return; }
  var word = 0u;
  for (var i = 0; i < 32; i++) {
    let cell = vec2i(i32(id.x) * 32 + i, i32(id.y));
    if (cell.x >= world.size.x) { break; }
    let local = localOf(cell);
    let acts = isOwn(local) && (bitsOf(cell).x >> 8u) < share(local);
    word |= select(0u, 1u, acts) << u32(i);
  }
  ranks[i32(id.y) * (count + 1) + i32(id.x)].x = word;
}`;

const wgslRanks = () => `${WGSL_HEAD}
@group(0) @binding(0) var<uniform> world: World;
@group(0) @binding(5) var<storage, read_write> ranks: array<vec2u>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (i32(id.x) >= world.size.y) { return; }
  let count = (world.size.x + 31) / 32;
  let first = i32(id.x) * (count + 1);
  var before = 0u;
  for (var i = first; i < first + count; i++) {
    ranks[i].y = before;
    before += countOneBits(ranks[i].x);
  }
  ranks[first + count].y = before;
}`;

const WGSL_CELL_AT = `
@group(0) @binding(5) var<storage, read> ranks: array<vec2u>;
// Column of the cell that acts as the slot-th of its row; -1 where so many do not.
fn columnOf(slot: i32, row: i32) -> i32 {
  let count = (world.size.x + 31) / 32;
  let first = row * (count + 1);
  if (slot >= i32(ranks[first + count].y)) { return -1; }
  var low = 0;
  var high = count;
  while (high - low > 1) {
    let middle = (low + high) / 2;
    if (i32(ranks[first + middle].y) <= slot) { low = middle; } else { high = middle; }
  }
  var word = ranks[first + low].x;
  var left = slot - i32(ranks[first + low].y);
  var column = low * 32;
  for (var reach = 16u; reach > 0u; reach >>= 1u) {
    let lower = i32(countOneBits(word & ((1u << reach) - 1u)));
    if (left >= lower) {
      left -= lower;
      column += i32(reach);
      word >>= reach;
    }
  }
  return column;
}
`;

function wgslStep(model, packed, inBlock) {
  const count = packed.vectors.length / 4;
  const bound = inBlock ? `var<uniform> weights: array<vec4f, ${count}>` :
    'var<storage, read> weights: array<vec4f>';
  const { state } = model.limits;
  const each = model.fire_by === 'element';
  const groups = [...Array(packed.groups).keys()];
  const limited = (text) => (state === null ? text :
    `clamp(${text}, vec4f(${decimal(-state)}), vec4f(${decimal(state)}))`);
  const rest = [...Array(GROUPS).keys()].slice(packed.groups);
  // Packed, the other cells are in the target already.
  const chosen = packs(model)
    ? `cell = vec2i(columnOf(i32(id.x), i32(id.y)), i32(id.y));
  if (cell.x < 0) { return; }
  let local = localOf(cell);`
    : `cell = vec2i(id.xy);
  let local = localOf(cell);
  if (!isOwn(local)) { return; }
  let acts = ${each ? 'true' : '(bitsOf(cell).x >> 8u) < share(local)'};
  if (!acts) {
    for (var g = 0; g < ${GROUPS}; g++) { target_[place(cell, g)] = fetch(cell, g); }
    return;
  }`;
  return `${WGSL_HEAD}${WGSL_PCG}${WGSL_BUFFERS}${WGSL_ACTS}${packs(model) ? WGSL_CELL_AT : ''}
@group(0) @binding(4) ${bound};
var<private> cell: vec2i;
var<private> parity: i32;
fn W(k: i32) -> vec4f { return weights[k]; }
fn tap(k: i32) -> vec4f { return world.taps[parity * 9 + k]; }
fn fetch(at: vec2i, group: i32) -> vec4f { return state[place(at, group)]; }
fn fires(group: i32, most: u32) -> vec4f {
  let bits = pcg4d(vec4u(vec2u(cell), world.chance.x, world.streams[group].x)) >> vec4u(8u);
  return select(vec4f(0.0), vec4f(1.0), bits < vec4u(most));
}
@compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (i32(id.x) >= world.size.x || i32(id.y) >= world.size.y) { return; }
  ${chosen}
  parity = cell.y & 1;
  var turn = world.turned;
  var combed = (local.zw - 128.0) / 127.0;
  if (combed.x < 0.9999) {
    combed = normalize(combed);
    turn = vec2f(turn.x * combed.x - turn.y * combed.y, turn.x * combed.y + turn.y * combed.x);
  }
  let inverse = world.inverse;
  let size = world.size;
  var columns = vec3i(beside(cell.x - 1, size.x, world.edges.x), cell.x,
    beside(cell.x + 1, size.x, world.edges.x));
  var rows = vec3i(beside(cell.y - 1, size.y, world.edges.y), cell.y,
    beside(cell.y + 1, size.y, world.edges.y));
  let across = step(vec3f(0.0), vec3f(columns));
  let down = step(vec3f(0.0), vec3f(rows));
  columns = max(columns, vec3i(0));
  rows = max(rows, vec3i(0));
    ${ruleSource(model, packed, WGSL)}
  ${groups.map((g) =>
    `target_[place(cell, ${g})] = ${limited(`c${g} + u${g} * world.dt${each ? ` * fires(${g}, share(local))` : ''}`)};`).join('\n  ')}
  ${rest.map((g) => `target_[place(cell, ${g})] = fetch(cell, ${g});`).join('\n  ')}
}`;
}

const wgslLife = () => `${WGSL_HEAD}${WGSL_BUFFERS}
@group(0) @binding(4) var<storage, read> before: array<vec4f>;
@compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) id: vec3u) {
  let cell = vec2i(id.xy);
  if (cell.x >= world.size.x || cell.y >= world.size.y) { return; }
  let model = u32(unpack4x8unorm(control[place(cell, 0)]).x * 255.0 + 0.5);
  var was = 0.0;
  var is = 0.0;
  let slant = select(-1, 1, (cell.y & 1) == 0);
  for (var j = -1; j <= 1; j++) { for (var i = -1; i <= 1; i++) {
    if (world.hex > 0.5 && j != 0 && i == slant) { continue; }
    let at = vec2i(beside(cell.x + i, world.size.x, world.edges.x),
      beside(cell.y + j, world.size.y, world.edges.y));
    if (min(at.x, at.y) >= 0) {
      was = max(was, before[place(at, 0)].w);
      is = max(is, state[place(at, 0)].w);
    }
  } }
  let stays = ((world.mortal >> model) & 1u) == 0u || (was > 0.1 && is > 0.1);
  let own = f32(world.owns[min(model, ${MODELS.length - 1}u)].x);
  for (var g = 0; g < ${GROUPS}; g++) {
    let held = step(vec4f(own - 0.5), f32(4 * g) + vec4f(0.0, 1.0, 2.0, 3.0));
    let cells = state[place(cell, g)];
    target_[place(cell, g)] = select(cells * held, cells, stays);
  }
}`;

const wgslBrush = () => `${WGSL_HEAD}${WGSL_PCG}${WGSL_BUFFERS}
@group(0) @binding(4) var<uniform> brush: Brush;
@compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) id: vec3u) {
  let cell = vec2i(id.xy);
  if (cell.x >= world.size.x || cell.y >= world.size.y) { return; }
  let at = vec2f(f32(cell.x) + 0.5 + rowShift(cell.y), (f32(cell.y) + 0.5) * rowHeight());
  let whole = vec2f(world.size) * vec2f(1.0, rowHeight());
  let way = brush.stroke.zw - brush.stroke.xy;
  var offset = at - brush.stroke.xy;
  if (world.edges.x == 0) { offset.x -= whole.x * round((offset.x - way.x * 0.5) / whole.x); }
  if (world.edges.y == 0) { offset.y -= whole.y * round((offset.y - way.y * 0.5) / whole.y); }
  let t = clamp(dot(offset, way) / max(dot(way, way), 1e-6), 0.0, 1.0);
  if (length(offset - way * t) > brush.radius) { return; }
  for (var g = 0; g < ${GROUPS}; g++) {
    let bits = pcg4d(vec4u(vec2u(cell), 0u, brush.streams[g].x)) >> vec4u(8u);
    let put = brush.fill[g] + (vec4f(bits) / 16777216.0 - 0.5) * brush.noise[g];
    target_[place(cell, g)] = mix(put, target_[place(cell, g)], brush.keep[g]);
  }
}`;

const wgslDraw = () => `${WGSL_HEAD}
@group(0) @binding(0) var<uniform> world: World;
@group(0) @binding(1) var<storage, read> state: array<vec4f>;
@group(0) @binding(2) var<storage, read> control: array<u32>;
@group(0) @binding(3) var<uniform> view: View;
@vertex fn corners(@builtin(vertex_index) i: u32) -> @builtin(position) vec4f {
  return vec4f(vec2f(f32((i << 1u) & 2u), f32(i & 2u)) * 2.0 - 1.0, 0.0, 1.0);
}
fn shown(at: vec2i) -> vec4f {
  let model = u32(unpack4x8unorm(control[place(at, 0)]).x * 255.0 + 0.5);
  let look = view.looks[min(model, ${MODELS.length - 1}u)];
  let seen = state[place(at, 0)] * look.x + look.y;
  return vec4f(seen.rgb, select(1.0, seen.a, look.z > 0.5));
}
fn stored(i: i32, j: i32) -> vec2i {
  let at = beyond(vec2i(i, j));
  let near = clamp(vec2i(i, j), vec2i(0), world.size - 1);
  return select(at, near, at < vec2i(0));
}
fn cubic(t: f32) -> vec4f {
  let s = t * t;
  let r = s * t;
  return vec4f(-0.5 * t + s - 0.5 * r, 1.0 - 2.5 * s + 1.5 * r,
    0.5 * t + 2.0 * s - 1.5 * r, -0.5 * s + 0.5 * r);
}
fn smoothly(at: vec2f) -> vec4f {
  let row = at.y / rowHeight() - 0.5;
  let j = i32(floor(row));
  let down = cubic(row - f32(j));
  var sum = vec4f(0.0);
  for (var n = 0; n < 4; n++) {
    let column = at.x - 0.5 - rowShift(j + n - 1);
    let i = i32(floor(column));
    let across = cubic(column - f32(i));
    var line = vec4f(0.0);
    for (var m = 0; m < 4; m++) { line += across[m] * shown(stored(i + m - 1, j + n - 1)); }
    sum += down[n] * line;
  }
  return clamp(sum, vec4f(0.0), vec4f(1.0));
}
fn sharply(at: vec2f) -> vec4f {
  let j = i32(floor(at.y / rowHeight() - 0.5));
  var best = 1e9;
  var next = 1e9;
  var found = vec2i(0);
  for (var n = 0; n < 2; n++) { for (var m = -1; m <= 1; m++) {
    let shift = rowShift(j + n);
    let i = i32(floor(at.x - shift)) + m;
    let centre = vec2f(f32(i) + 0.5 + shift, (f32(j + n) + 0.5) * rowHeight());
    let away = length(at - centre);
    if (away < best) { next = best; best = away; found = vec2i(i, j + n); }
    else { next = min(next, away); }
  } }
  let seen = clamp(shown(stored(found.x, found.y)), vec4f(0.0), vec4f(1.0));
  let line = smoothstep(0.0, 1.6 * view.pixel, (next - best) * 0.5);
  let far = 1.0 - smoothstep(0.06, 0.14, view.pixel);
  return mix(seen * vec4f(0.86, 0.86, 0.86, 1.0), seen, mix(1.0, line, far));
}
@fragment fn main(@builtin(position) position: vec4f) -> @location(0) vec4f {
  let at = view.corner + position.xy * view.pixel;
  let whole = vec2f(world.size) * vec2f(1.0, rowHeight());
  let beyond_x = world.edges.x != 0 && (at.x < 0.0 || at.x >= whole.x);
  let beyond_y = world.edges.y != 0 && (at.y < 0.0 || at.y >= whole.y);
  var seen = vec4f(0.0);
  if (view.cells != 0u) { seen = sharply(at); } else { seen = smoothly(at); }
  if (view.straight != 0u) { return seen; }
  let outside = beyond_x || beyond_y;
  seen = select(seen, vec4f(0.0), outside);
  let under = select(view.paper, view.desk, outside);
  return vec4f(seen.rgb + under * (1.0 - seen.a), 1.0);
}`;

class WebGPUEngine {
  // Raises an Error with a reason where the browser has no adapter for it, or, unless `any` will
  // do, only one in software.
  static async make(canvas, any) {
    const adapter = navigator.gpu && await navigator.gpu.requestAdapter(
      { powerPreference: 'high-performance' });
    if (!adapter) throw new Error('this browser has no WebGPU adapter');
    if (!any && (adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter)) {
      throw new Error('WebGPU runs in software here');
    }
    const device = await adapter.requestDevice();
    const context = canvas.getContext('webgpu');
    if (!context) throw new Error('this canvas has no WebGPU');
    return new WebGPUEngine(canvas, adapter, device, context);
  }

  constructor(canvas, adapter, device, context) {
    this.kind = 'WebGPU';
    this.format = 'float';
    this.formats = ['float'];
    this.canvas = canvas;
    this.adapter = adapter;
    this.device = device;
    this.context = context;
    this.surface = navigator.gpu.getPreferredCanvasFormat();
    context.configure({ device, format: this.surface, alphaMode: 'opaque' });
    this.packed = MODELS.map(packRule);
    this.weights = MODELS.map(() => null);
    this.pipelines = new Map();
    this.failed = null;
    device.addEventListener('uncapturederror', (event) => { this.failed ??= event.error.message; });
    this.longest = 2048;
    this.mostCells = Math.min(2 ** 22,
      Math.floor(device.limits.maxStorageBufferBindingSize / (GROUPS * 16)));
    this.blockSize = device.limits.maxUniformBufferBindingSize;
    this.view = this.uniform(48 + 16 * MODELS.length);
    this.viewTile = this.uniform(48 + 16 * MODELS.length);
    this.brushes = this.uniform(32 + 64 * GROUPS);
    this.worldSize = 352 + 16 * (GROUPS + MODELS.length);
    this.worlds = MODELS.map(() => this.uniform(this.worldSize));
    this.pending = 0;
    this.now = 0;
  }

  uniform(size) {
    return this.device.createBuffer({ size,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
  }

  resize(width, height) {
    for (const buffer of [...(this.states ?? []), this.control, this.ranks]) buffer?.destroy();
    this.width = width;
    this.height = height;
    const storage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
    this.states = [0, 1, 2].map(() => this.device.createBuffer(
      { size: GROUPS * width * height * 16, usage: storage }));
    this.control = this.device.createBuffer({ size: width * height * 4, usage: storage });
    this.ranks = this.device.createBuffer({ size: (Math.ceil(width / 32) + 1) * height * 8,
      usage: storage });
    this.now = 0;
  }

  load(state) { this.device.queue.writeBuffer(this.states[this.now], 0, state); }

  setControl(bytes) { this.device.queue.writeBuffer(this.control, 0, bytes); }

  weightsOf(index, hex) {
    const packed = this.packed[index];
    const inBlock = packed.vectors.byteLength <= this.blockSize;
    const held = this.weights[index] ?? { inBlock, hex: null };
    if (held.hex === hex || (held.hex !== null && !packed.learned)) return held;
    layKernels(MODELS[index], packed, hex);
    held.buffer ??= this.device.createBuffer({ size: packed.vectors.byteLength,
      usage: GPUBufferUsage.COPY_DST | (inBlock ? GPUBufferUsage.UNIFORM : GPUBufferUsage.STORAGE) });
    this.device.queue.writeBuffer(held.buffer, 0, packed.vectors);
    held.hex = hex;
    this.weights[index] = held;
    return held;
  }

  compute(key, source) {
    if (!this.pipelines.has(key)) {
      const module = this.device.createShaderModule({ code: source() });
      this.pipelines.set(key, this.device.createComputePipeline(
        { layout: 'auto', compute: { module, entryPoint: 'main' } }));
    }
    return this.pipelines.get(key);
  }

  bind(pipeline, buffers) {
    return this.device.createBindGroup({ layout: pipeline.getBindGroupLayout(0),
      entries: Object.entries(buffers).map(([binding, buffer]) =>
        ({ binding: Number(binding), resource: { buffer } })) });
  }

  writeWorld(slot, world, index) {
    const bytes = new ArrayBuffer(this.worldSize);
    const [whole, plain, real] = [new Int32Array(bytes), new Uint32Array(bytes),
      new Float32Array(bytes)];
    whole.set([this.width, this.height, EDGE_NUMBERS[world.edges[1]],
      EDGE_NUMBERS[world.edges[0]]]);
    plain.set([world.step >>> 0, world.seed >>> 0, world.fireLimits[index]], 4);
    whole[7] = index;
    real.set([Math.cos(world.angle), Math.sin(world.angle), 1 / world.dx, 1 / world.dx ** 2,
      world.dt, world.hex], 8);
    plain[14] = world.present.length > 1 ? 1 : 0;
    plain[15] = world.present.reduce((bits, i) =>
      (MODELS[i].living ? bits | (1 << i) : bits) >>> 0, 0);
    real.set(world.taps[index], 16);
    world.fireStreams.forEach((stream, g) => { plain[88 + 4 * g] = stream; });
    MODELS.forEach((model, i) => { plain[88 + 4 * (GROUPS + i)] = model.own; });
    this.device.queue.writeBuffer(this.worlds[slot], 0, bytes);
  }

  dispatch(encoder, pipeline, buffers, across = this.width / 8, down = this.height / 8) {
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, this.bind(pipeline, buffers));
    pass.dispatchWorkgroups(Math.ceil(across), Math.ceil(down));
    pass.end();
  }

  step(world) {
    const encoder = this.device.createCommandEncoder();
    const target = (this.now + 1) % 3;
    if (world.present.some((index) => packs(MODELS[index]))) {
      encoder.copyBufferToBuffer(this.states[this.now], 0, this.states[target], 0,
        GROUPS * this.width * this.height * 16);
    }
    for (const index of world.present) {
      const weights = this.weightsOf(index, world.hex);
      this.writeWorld(index, world, index);
      if (packs(MODELS[index])) {
        this.dispatch(encoder, this.compute('words', wgslWords),
          { 0: this.worlds[index], 2: this.control, 5: this.ranks },
          this.width / 256, this.height / 8);
        this.dispatch(encoder, this.compute('ranks', wgslRanks),
          { 0: this.worlds[index], 5: this.ranks }, this.height / 64, 1);
      }
      const pipeline = this.compute(`step ${index}`, () =>
        wgslStep(MODELS[index], this.packed[index], weights.inBlock));
      const buffers = { 0: this.worlds[index], 1: this.states[this.now], 2: this.control,
        3: this.states[target], 4: weights.buffer };
      if (packs(MODELS[index])) buffers[5] = this.ranks;
      // What a layout made by itself leaves out is what a shader does not read.
      this.dispatch(encoder, pipeline, buffers);
    }
    let result = target;
    if (world.present.some((index) => MODELS[index].living)) {
      result = (this.now + 2) % 3;
      this.dispatch(encoder, this.compute('life', wgslLife), { 0: this.worlds[world.present[0]],
        1: this.states[target], 2: this.control, 3: this.states[result], 4: this.states[this.now] });
    }
    this.device.queue.submit([encoder.finish()]);
    this.now = result;
  }

  brush(world, stroke, radius, change) {
    const bytes = new ArrayBuffer(32 + 64 * GROUPS);
    const [plain, real] = [new Uint32Array(bytes), new Float32Array(bytes)];
    real.set([...stroke, radius]);
    ['keep', 'fill', 'noise'].forEach((name, i) => real.set(change[name], 8 + 4 * GROUPS * i));
    change.streams.forEach((stream, g) => { plain[8 + 12 * GROUPS + 4 * g] = stream; });
    this.device.queue.writeBuffer(this.brushes, 0, bytes);
    this.writeWorld(world.present[0], world, world.present[0]);
    const encoder = this.device.createCommandEncoder();
    this.dispatch(encoder, this.compute('brush', wgslBrush), { 0: this.worlds[world.present[0]],
      3: this.states[this.now], 4: this.brushes });
    this.device.queue.submit([encoder.finish()]);
  }

  paint(world, view, texture, format, slot) {
    const key = `draw ${format}`;
    if (!this.pipelines.has(key)) {
      const module = this.device.createShaderModule({ code: wgslDraw() });
      this.pipelines.set(key, this.device.createRenderPipeline({ layout: 'auto',
        vertex: { module, entryPoint: 'corners' },
        fragment: { module, entryPoint: 'main', targets: [{ format }] } }));
    }
    const pipeline = this.pipelines.get(key);
    const bytes = new ArrayBuffer(48 + 16 * MODELS.length);
    const [plain, real] = [new Uint32Array(bytes), new Float32Array(bytes)];
    real.set([view.x, view.y, view.pixel]);
    plain[3] = view.cells ? 1 : 0;
    real.set(view.paper, 4);
    plain[7] = view.straight ? 1 : 0;
    real.set(view.desk, 8);
    MODELS.forEach((model, i) => real.set([model.rgb.scale, model.rgb.offset,
      model.living ? 1 : 0], 12 + 4 * i));
    this.device.queue.writeBuffer(slot, 0, bytes);
    this.writeWorld(world.present[0], world, world.present[0]);
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginRenderPass({ colorAttachments: [{ view: texture.createView(),
      loadOp: 'clear', storeOp: 'store', clearValue: [0, 0, 0, 1] }] });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, this.bind(pipeline, { 0: this.worlds[world.present[0]],
      1: this.states[this.now], 2: this.control, 3: slot }));
    pass.draw(3);
    pass.end();
    this.device.queue.submit([encoder.finish()]);
  }

  draw(world, view) {
    this.paint(world, view, this.context.getCurrentTexture(), this.surface, this.view);
  }

  async pixels(world, view, width, height) {
    const texture = this.device.createTexture({ size: [width, height], format: 'rgba8unorm',
      usage: GPUTextureUsage.RENDER_ATTACHMENT | GPUTextureUsage.COPY_SRC });
    this.paint(world, view, texture, 'rgba8unorm', this.viewTile);
    const stride = Math.ceil(width * 4 / 256) * 256;
    const buffer = this.device.createBuffer({ size: stride * height,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = this.device.createCommandEncoder();
    encoder.copyTextureToBuffer({ texture }, { buffer, bytesPerRow: stride }, [width, height]);
    this.device.queue.submit([encoder.finish()]);
    await buffer.mapAsync(GPUMapMode.READ);
    const rows = new Uint8Array(buffer.getMappedRange());
    const bytes = new Uint8Array(width * height * 4);
    for (let y = 0; y < height; ++y) {
      bytes.set(rows.subarray(y * stride, y * stride + width * 4), y * width * 4);
    }
    buffer.destroy();
    texture.destroy();
    return bytes;
  }

  async read() {
    const size = GROUPS * this.width * this.height * 16;
    const buffer = this.device.createBuffer({ size,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(this.states[this.now], 0, buffer, 0, size);
    this.device.queue.submit([encoder.finish()]);
    await buffer.mapAsync(GPUMapMode.READ);
    const state = new Float32Array(buffer.getMappedRange()).slice();
    buffer.destroy();
    if (this.failed) throw new Error(this.failed);
    return state;
  }

  idle() {
    if (this.pending > 0) return false;
    this.pending += 1;
    this.device.queue.onSubmittedWorkDone().then(() => { this.pending -= 1; });
    return true;
  }

  close() {
    this.closed = true;
    this.device.destroy();
  }
}
