// Steps and pictures in WebGL2. A state is an array texture of vectors of four channels, in float,
// half-float or, where a device can render to neither, bytes that are rounded by chance.

const EDGE_NUMBERS = { torus: 0, zero: 1, reflect: 2, replicate: 3 };

const GLSL_HEAD = `#version 300 es
precision highp float; precision highp int;
precision highp sampler2D; precision highp sampler2DArray;
uniform sampler2DArray state;
uniform sampler2D control; // model, speed, cosine, sine
uniform ivec2 size, edges;
uniform float hex;

int beyond(int i, int n, int edge) { // where what lies at i is stored; -1 is nowhere
  if (i >= 0 && i < n) return i;
  if (edge == 0) return ((i % n) + n) % n;
  if (edge == 1) return -1;
  if (edge == 3) return clamp(i, 0, n - 1);
  int turn = max(2 * (n - 1), 1);
  i = ((i % turn) + turn) % turn;
  return min(i, turn - i);
}
ivec2 beyond(ivec2 at) {
  return ivec2(beyond(at.x, size.x, edges.x), beyond(at.y, size.y, edges.y));
}
// The same for what lies at most one cell outside, without a division.
int beside(int i, int n, int edge) {
  if (i >= 0 && i < n) return i;
  if (edge == 0) return i < 0 ? n - 1 : 0;
  if (edge == 1) return -1;
  if (edge == 3) return i < 0 ? 0 : n - 1;
  return i < 0 ? min(1, n - 1) : max(n - 2, 0);
}
vec4 raw(ivec2 at, int group) { return texelFetch(state, ivec3(at, group), 0); }
`;

const GLSL_PCG = `
uvec4 pcg4d(uvec4 v) {
  v = v * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> 16u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v;
}
`;

const GLSL_CORNERS = `#version 300 es
void main() {
  vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
  gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}`;

// Reading and writing of numbers as the texture holds them.
function glslNumbers(format, range) {
  if (format !== 'byte') {
    return 'vec4 decode(vec4 v) { return v; }\nvec4 encode(vec4 v, vec4 dice) { return v; }\n';
  }
  // Rounded up or down by chance, so that updates smaller than a byte's step are not lost.
  return `vec4 decode(vec4 v) { return (v * 255.0 - 128.0) * ${decimal(range / 127)}; }
vec4 encode(vec4 v, vec4 dice) {
  return clamp(floor(v * ${decimal(127 / range)} + 128.0 + dice), 0.0, 255.0) / 255.0;
}
`;
}

// Whether a cell of this model acts in this step; `bits` are its chance.
const GLSL_ACTS = `
uniform uvec2 chance; // step, seed
uniform uint fireLimit;
uniform int own;
uniform bool mixed;
bool isOwn(vec4 local) { return !mixed || int(local.x + 0.5) == own; }
uint share(vec4 local) {
  return local.y > 254.5 ? fireLimit : uint(float(fireLimit) * local.y / 255.0);
}
uvec4 bitsOf(ivec2 cell) { return pcg4d(uvec4(uvec2(cell), chance)); }
vec4 localOf(ivec2 cell) { return texelFetch(control, cell, 0) * 255.0; }
`;

// Which cells act, packed: where only some do, their updates are made side by side, row by row, so
// that no lane of the device waits for its neighbour. A bit for each cell, 32 in a word; ...
const glslWords = () => `${GLSL_HEAD}${GLSL_PCG}${GLSL_ACTS}
out uint word;
void main() {
  ivec2 cell = ivec2(gl_FragCoord.xy) * ivec2(32, 1);
  word = 0u;
  for (int i = 0; i < 32; ++i, ++cell.x) {
    vec4 local = localOf(min(cell, size - 1));
    bool acts = cell.x < size.x && isOwn(local) && (bitsOf(cell).x >> 8u) < share(local);
    word |= uint(acts) << i;
  }
}`;

const GLSL_ONES = `
int ones(uint word) {
  word -= (word >> 1) & 0x55555555u;
  word = (word & 0x33333333u) + ((word >> 2) & 0x33333333u);
  return int((((word + (word >> 4)) & 0x0f0f0f0fu) * 0x01010101u) >> 24);
}
`;

// ... then each word, and how many cells of its row act before it; behind the last, how many do.
const glslRanks = () => `#version 300 es
precision highp int; precision highp usampler2D;
uniform usampler2D words;
out uvec2 rank;
${GLSL_ONES}
void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  int before = 0;
  for (int i = 0; i < at.x; ++i) before += ones(texelFetch(words, ivec2(i, at.y), 0).x);
  uint word = at.x < textureSize(words, 0).x ? texelFetch(words, at, 0).x : 0u;
  rank = uvec2(word, before);
}`;

const GLSL_PLACED = `${GLSL_ONES}
uniform highp usampler2D ranks;
uvec2 rank(int word, int row) { return texelFetch(ranks, ivec2(word, row), 0).xy; }
`;

// Column of the cell that acts as the `slot`th of its row; -1 where so many do not.
const GLSL_CELL_AT = `${GLSL_PLACED}
int columnOf(int slot, int row) {
  int low = 0, high = textureSize(ranks, 0).x - 1;
  if (slot >= int(rank(high, row).y)) return -1;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (int(rank(middle, row).y) <= slot) low = middle; else high = middle;
  }
  uvec2 found = rank(low, row);
  int left = slot - int(found.y), column = low * 32;
  for (int reach = 16; reach > 0; reach >>= 1) {
    int lower = ones(found.x & ((1u << reach) - 1u));
    if (left >= lower) { left -= lower; column += reach; found.x >>= reach; }
  }
  return column;
}
`;

// Put packed cells back where they belong, beside those that did not act.
const glslSpread = (count, abreast) => `${GLSL_HEAD}${GLSL_PLACED}
uniform sampler2DArray updated;
uniform int own, first;
uniform bool mixed;
${[...Array(count).keys()].map((i) => `layout(location = ${i}) out vec4 o${i};`).join('\n')}
void main() {
  ivec2 cell = ivec2(gl_FragCoord.xy);
  if (mixed && int(texelFetch(control, cell, 0).x * 255.0 + 0.5) != own) discard;
  uvec2 found = rank(cell.x >> 5, cell.y);
  int bit = cell.x & 31;
  bool acted = ((found.x >> bit) & 1u) == 1u;
  int slot = int(found.y) + ones(found.x & ((1u << bit) - 1u));
  ivec3 place = ivec3(slot / ${abreast}, cell.y, slot % ${abreast} * ${GROUPS} + first);
  ${[...Array(count).keys()].map((i) => `o${i} = acted ?
    texelFetch(updated, place + ivec3(0, 0, ${i}), 0) : raw(cell, first + ${i});`).join('\n  ')}
}`;

// One step of a model: of every cell, or of those that act, packed, `abreast` of them at a time. The
// groups of channels from `first` on are written; packed, those of one cell after those of the other.
function glslStep(model, packed, range, format, inBlock, [first, count], abreast) {
  const weights = inBlock
    ? `layout(std140) uniform Weights { vec4 weights[${packed.vectors.length / 4}]; };
vec4 W(int k) { return weights[k]; }`
    : `uniform sampler2D weights;
vec4 W(int k) { return texelFetch(weights, ivec2(k & 1023, k >> 10), 0); }`;
  const packing = packs(model);
  const marks = packing ? ['', 'B'].slice(0, abreast) : [''];
  const outs = [...Array(count * marks.length).keys()];
  const groups = [...Array(packed.groups).keys()];
  const written = outs.map((i) => {
    const [m, g] = [marks[Math.floor(i / count)], first + (i % count)];
    const old = `raw(cell${m}, ${g})`;
    return g < packed.groups
      ? `o${i} = acts ? encode(limited(C${g}${m} + U${g}${m}), dice${m}) : ${old};` : `o${i} = ${old};`;
  });
  const { state } = model.limits;
  const each = model.fire_by === 'element';
  const chosen = packing
    ? `ivec2 slot = ivec2(gl_FragCoord.xy) * ivec2(${marks.length}, 1);
  int row = slot.y;
  ${marks.map((m, i) => `ivec2 cell${m} = ivec2(columnOf(slot.x + ${i}, row), row);`).join('\n  ')}
  bool acts = cell.x >= 0;
  ${marks.map((m) => `cell${m}.x = max(cell${m}.x, 0);`).join('\n  ')}`
    : `ivec2 cell = ivec2(gl_FragCoord.xy);
  int row = cell.y;
  if (!isOwn(localOf(cell))) discard;
  bool acts = ${each ? 'true' : '(bitsOf(cell).x >> 8u) < share(localOf(cell))'};`;
  return `${GLSL_HEAD}${GLSL_PCG}${glslNumbers(format, range)}${GLSL_ACTS}
${packing ? GLSL_CELL_AT : ''}
${weights}
uniform vec4 taps[18];
uniform vec2 turned, inverse;
uniform float dt;
uniform uint streams[${GROUPS}]; // of chance for each number, not for each cell
${outs.map((i) => `layout(location = ${i}) out vec4 o${i};`).join('\n')}
vec4 limited(vec4 v) { return ${state === null ? 'v' :
    `clamp(v, ${decimal(-state)}, ${decimal(state)})`}; }
int parity;
vec4 tap(int k) { return taps[parity * 9 + k]; }
vec4 fetch(ivec2 at, int group) { return decode(raw(at, group)); }
vec4 fires(ivec2 cell, int group) {
  uvec4 bits = pcg4d(uvec4(uvec2(cell), chance.x, streams[group])) >> 8u;
  return vec4(lessThan(bits, uvec4(share(localOf(cell)))));
}
vec2 turnOf(ivec2 cell) {
  vec2 combed = (localOf(cell).zw - 128.0) / 127.0;
  if (combed.x >= 0.9999) return turned;
  combed = normalize(combed);
  return vec2(turned.x * combed.x - turned.y * combed.y, turned.x * combed.y + turned.y * combed.x);
}
void main() {
  ${chosen}
  parity = row & 1;
  ${marks.map((m) => `vec2 turn${m} = turnOf(cell${m});
  vec4 dice${m} = vec4(pcg4d(bitsOf(cell${m})) >> 8u) / 16777216.0;
  ivec3 columns${m} = ivec3(beside(cell${m}.x - 1, size.x, edges.x), cell${m}.x,
    beside(cell${m}.x + 1, size.x, edges.x));
  vec3 across${m} = step(0.0, vec3(columns${m}));
  columns${m} = max(columns${m}, 0);
  ${groups.map((g) => `vec4 C${g}${m}, U${g}${m};`).join(' ')}`).join('\n  ')}
  ivec3 rows = ivec3(beside(row - 1, size.y, edges.y), row, beside(row + 1, size.y, edges.y));
  vec3 down = step(0.0, vec3(rows));
  rows = max(rows, 0);
  // A loop, because what runs on a CPU leaves loops early, but not conditions.
  for (int turns = acts ? 1 : 0; turns > 0; --turns) {
    ${ruleSource(model, packed, GLSL, marks)}
    ${marks.flatMap((m) => groups.map((g) => `C${g}${m} = c${g}${m}; U${g}${m} = u${g}${m} * dt${
    each ? ` * fires(cell${m}, ${g})` : ''};`)).join(' ')}
  }
  ${written.join('\n  ')}
}`;
}

// Cells die that neither were nor are next to a living one, in models that have a living mask.
function glslLife(format, range, count) {
  return `${GLSL_HEAD}${glslNumbers(format, range)}
uniform sampler2DArray before;
uniform uint mortal; // bit i: model i has a living mask
uniform int owns[${MODELS.length}]; // channels that a model changes; others do not die
uniform int first;
${[...Array(count).keys()].map((i) => `layout(location = ${i}) out vec4 o${i};`).join('\n')}
bool alive(sampler2DArray cells, ivec2 cell) {
  float most = 0.0;
  for (int j = -1; j <= 1; ++j) for (int i = -1; i <= 1; ++i) {
    if (hex > 0.5 && j != 0 && i == ((cell.y & 1) == 0 ? 1 : -1)) continue;
    ivec2 at = ivec2(beside(cell.x + i, size.x, edges.x), beside(cell.y + j, size.y, edges.y));
    if (min(at.x, at.y) >= 0) most = max(most, decode(texelFetch(cells, ivec3(at, 0), 0)).w);
  }
  return most > 0.1;
}
void main() {
  ivec2 cell = ivec2(gl_FragCoord.xy);
  uint model = uint(texelFetch(control, cell, 0).x * 255.0 + 0.5);
  bool stays = ((mortal >> model) & 1u) == 0u || (alive(before, cell) && alive(state, cell));
  float own = float(owns[min(int(model), ${MODELS.length - 1})]);
  ${[...Array(count).keys()].map((i) => `{
    vec4 cells = raw(cell, first + ${i});
    vec4 held = step(vec4(own - 0.5), float(4 * (first + ${i})) + vec4(0, 1, 2, 3));
    o${i} = stays ? cells : mix(encode(vec4(0.0), vec4(0.0)), cells, held);
  }`).join('\n  ')}
}`;
}

// Distances on the picture, whose odd rows lie half a cell right as far as it is hexagonal.
const GLSL_PLACES = `
float rowHeight() { return mix(1.0, 0.8660254, hex); }
float rowShift(int row) { return ((row & 1) == 1 ? 0.25 : -0.25) * hex; }
`;

function glslBrush(format, range, count) {
  return `${GLSL_HEAD}${GLSL_PLACES}${GLSL_PCG}${glslNumbers(format, range)}
uniform vec4 stroke; // from, to: cells across, picture heights down
uniform float radius;
// Of each group of channels: how much stays, what is put there, how much noise is added.
uniform vec4 keep[${GROUPS}], fill[${GROUPS}], noise[${GROUPS}];
uniform uint streams[${GROUPS}];
uniform int first;
${[...Array(count).keys()].map((i) => `layout(location = ${i}) out vec4 o${i};`).join('\n')}
vec4 filled(int group, ivec2 cell) {
  vec4 old = raw(cell, group);
  vec4 dice = vec4(pcg4d(uvec4(uvec2(cell), 0u, streams[group])) >> 8u) / 16777216.0;
  vec4 put = encode(fill[group] + (dice - 0.5) * noise[group], vec4(0.5));
  return mix(put, old, keep[group]);
}
void main() {
  ivec2 cell = ivec2(gl_FragCoord.xy);
  vec2 at = vec2(float(cell.x) + 0.5 + rowShift(cell.y), (float(cell.y) + 0.5) * rowHeight());
  vec2 whole = vec2(size) * vec2(1.0, rowHeight());
  vec2 along = stroke.zw - stroke.xy;
  vec2 from = at - stroke.xy;
  if (edges.x == 0) from.x -= whole.x * round((from.x - along.x * 0.5) / whole.x);
  if (edges.y == 0) from.y -= whole.y * round((from.y - along.y * 0.5) / whole.y);
  float t = clamp(dot(from, along) / max(dot(along, along), 1e-6), 0.0, 1.0);
  bool far = length(from - along * t) > radius;
  ${[...Array(count).keys()].map((i) =>
    `o${i} = far ? raw(cell, first + ${i}) : filled(first + ${i}, cell);`).join('\n  ')}
}`;
}

// Colours of all cells, to be shown from: what is drawn has many more pixels than cells.
function glslColours(format, range) {
  return `${GLSL_HEAD}${glslNumbers(format, range)}
uniform vec4 looks[${MODELS.length}]; // scale, offset, whether there is alpha
out vec4 colour;
void main() {
  ivec2 cell = ivec2(gl_FragCoord.xy);
  ${MODELS.length > 1 ? `int model = int(texelFetch(control, cell, 0).x * 255.0 + 0.5);
  vec4 look = looks[min(model, ${MODELS.length - 1})];` : 'vec4 look = looks[0];'}
  vec4 seen = decode(raw(cell, 0)) * look.x + look.y;
  colour = look.z > 0.5 ? seen : vec4(seen.rgb, 1.0);
}`;
}

const glslDraw = () => `${GLSL_HEAD}${GLSL_PLACES}
uniform sampler2D colours;
uniform vec2 corner; // of the view: cells across, picture heights down
uniform float pixel; // cells a pixel
uniform float flip; // height of what is drawn to in pixels, or 0 to leave rows as they are
uniform bool cells, straight; // sharp cells; colours that are not multiplied by alpha
uniform vec3 paper, desk;
out vec4 colour;

vec4 shown(ivec2 at) {
  ivec2 found = beyond(at);
  return texelFetch(colours, ivec2(found.x < 0 ? clamp(at.x, 0, size.x - 1) : found.x,
    found.y < 0 ? clamp(at.y, 0, size.y - 1) : found.y), 0);
}
vec4 cubic(float t) { // Catmull-Rom, as in pictures of the command line
  float s = t * t, r = s * t;
  return vec4(-0.5 * t + s - 0.5 * r, 1.0 - 2.5 * s + 1.5 * r,
    0.5 * t + 2.0 * s - 1.5 * r, -0.5 * s + 0.5 * r);
}
vec4 line(float x, float row) { // of one row of cells: four of them by three linear samples
  float column = x - 0.5 - rowShift(int(row));
  float i = floor(column);
  vec4 across = cubic(column - i);
  float two = across.y + across.z;
  vec2 whole = vec2(size);
  float v = (row + 0.5) / whole.y;
  return across.x * textureLod(colours, vec2((i - 0.5) / whole.x, v), 0.0)
    + two * textureLod(colours, vec2((i + 0.5 + across.z / two) / whole.x, v), 0.0)
    + across.w * textureLod(colours, vec2((i + 2.5) / whole.x, v), 0.0);
}
vec4 smoothly(vec2 at) {
  float row = at.y / rowHeight() - 0.5;
  float j = floor(row);
  vec4 down = cubic(row - j);
  return clamp(down.x * line(at.x, j - 1.0) + down.y * line(at.x, j) + down.z * line(at.x, j + 1.0)
    + down.w * line(at.x, j + 2.0), 0.0, 1.0);
}
vec4 sharply(vec2 at) { // the nearest cell, and a fine line between it and the next
  int j = int(floor(at.y / rowHeight() - 0.5));
  float best = 1e9, next = 1e9;
  ivec2 found = ivec2(0);
  for (int n = 0; n < 2; ++n) for (int m = -1; m <= 1; ++m) {
    float shift = rowShift(j + n);
    int i = int(floor(at.x - shift)) + m;
    vec2 centre = vec2(float(i) + 0.5 + shift, (float(j + n) + 0.5) * rowHeight());
    float distance = length(at - centre);
    if (distance < best) { next = best; best = distance; found = ivec2(i, j + n); }
    else next = min(next, distance);
  }
  vec4 seen = shown(found);
  float line = smoothstep(0.0, 1.6 * pixel, (next - best) * 0.5);
  float far = smoothstep(0.14, 0.06, pixel);
  return mix(seen * vec4(0.86, 0.86, 0.86, 1.0), seen, mix(1.0, line, far));
}
void main() {
  vec2 place = gl_FragCoord.xy;
  if (flip > 0.0) place.y = flip - place.y;
  vec2 at = corner + place * pixel;
  vec2 whole = vec2(size) * vec2(1.0, rowHeight());
  bool out_x = edges.x != 0 && (at.x < 0.0 || at.x >= whole.x);
  bool out_y = edges.y != 0 && (at.y < 0.0 || at.y >= whole.y);
  vec4 seen = cells ? sharply(at) : smoothly(at);
  if (straight) { colour = seen; return; }
  vec3 under = out_x || out_y ? desk : paper;
  if (out_x || out_y) seen = vec4(0.0);
  colour = vec4(seen.rgb + under * (1.0 - seen.a), 1.0);
}`;

class WebGLEngine {
  // Where a browser has WebGL2 but no way to render floats, `format` becomes byte.
  constructor(canvas, format = 'auto') {
    this.kind = 'WebGL2';
    this.canvas = canvas;
    const gl = canvas.getContext('webgl2', { antialias: false, alpha: false,
      preserveDrawingBuffer: false, powerPreference: 'high-performance' });
    if (!gl) throw new Error('this browser has no WebGL2');
    this.gl = gl;
    const float = gl.getExtension('EXT_color_buffer_float');
    const half = float || gl.getExtension('EXT_color_buffer_reachfloat');
    const can = [...(float ? ['float'] : []), ...(half ? ['half'] : []), 'byte'];
    this.formats = can.filter((name) => this.renders(name));
    this.format = this.formats.includes(format) ? format : this.formats[0];
    this.range = Math.max(...MODELS.map((model) => model.range));
    const outputs = this.mostOutputs();
    this.outputs = Math.min(GROUPS, outputs);
    // Packed cells of which one pass makes the update: two, where it can write as much.
    this.abreast = outputs >= 2 * GROUPS ? 2 : 1;
    this.vertices = gl.createVertexArray();
    this.programs = new Map();
    this.weights = MODELS.map(() => null);
    this.packed = MODELS.map(packRule);
    this.blockSize = gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE);
    this.control = gl.createTexture();
    this.longest = gl.getParameter(gl.MAX_TEXTURE_SIZE); // side of a grid
    this.mostCells = 2 ** 22;
    this.states = [];
    this.frames = [];
    this.colours = this.palette = null;
    this.now = 0;
  }

  static texel(gl, format) {
    return { float: [gl.RGBA32F, gl.FLOAT], half: [gl.RGBA16F, gl.FLOAT],
      byte: [gl.RGBA8, gl.UNSIGNED_BYTE] }[format];
  }

  renders(format) {
    const { gl } = this;
    const texture = gl.createTexture();
    const frame = gl.createFramebuffer();
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, WebGLEngine.texel(gl, format)[0], 2, 2, 1);
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferTextureLayer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, texture, 0, 0);
    const whole = gl.checkFramebufferStatus(gl.FRAMEBUFFER) === gl.FRAMEBUFFER_COMPLETE;
    gl.deleteFramebuffer(frame);
    gl.deleteTexture(texture);
    return whole;
  }

  program(key, source) {
    if (this.programs.has(key)) return this.programs.get(key);
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, GLSL_CORNERS], [gl.FRAGMENT_SHADER, source()]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      const notes = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
      throw new Error(`a shader cannot be built: ${gl.getProgramInfoLog(program)} ${notes.join(' ')}`);
    }
    const block = gl.getUniformBlockIndex(program, 'Weights');
    if (block !== gl.INVALID_INDEX) gl.uniformBlockBinding(program, block, 0);
    const places = new Map();
    const built = { program, at: (name) => {
      if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
      return places.get(name);
    } };
    this.programs.set(key, built);
    return built;
  }

  resize(width, height) {
    const { gl } = this;
    for (const texture of this.states) gl.deleteTexture(texture);
    for (const frame of this.frames.flat()) gl.deleteFramebuffer(frame);
    this.width = width;
    this.height = height;
    this.states = [0, 1, 2].map(() => this.layers(width, height, GROUPS));
    this.frames = this.states.map((texture) => this.spans().map((span) =>
      this.frameOf(texture, span)));
    if (this.updates) {
      gl.deleteTexture(this.updates.texture);
      for (const frame of this.updates.frames) gl.deleteFramebuffer(frame);
    }
    const across = Math.ceil(width / this.abreast);
    const updates = this.layers(across, height, this.abreast * GROUPS);
    this.updates = { texture: updates, width: across, frames: this.spans().map(([first, count]) =>
      this.frameOf(updates, [first, count * this.abreast])) };
    for (const name of ['words', 'ranks']) {
      if (this[name]) { gl.deleteTexture(this[name].texture); gl.deleteFramebuffer(this[name].frame); }
    }
    const columns = Math.ceil(width / 32);
    this.words = this.plane(gl.R32UI, columns, height);
    this.ranks = this.plane(gl.RG32UI, columns + 1, height);
    this.now = 0;
    if (this.colours) gl.deleteTexture(this.colours);
    this.colours = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.colours);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, width, height);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D, name, gl.LINEAR);
    }
    this.palette ??= gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.palette);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.colours, 0);
    gl.bindTexture(gl.TEXTURE_2D, this.control);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
    }
  }

  // Layers that one pass can write: devices limit how many, and some how large they are together.
  mostOutputs() {
    const { gl } = this;
    let count = gl.getParameter(gl.MAX_DRAW_BUFFERS);
    const texture = this.layers(2, 2, count);
    for (; count > 1; --count) {
      const frame = this.frameOf(texture, [0, count]);
      const whole = gl.checkFramebufferStatus(gl.FRAMEBUFFER) === gl.FRAMEBUFFER_COMPLETE;
      gl.deleteFramebuffer(frame);
      if (whole) break;
    }
    gl.deleteTexture(texture);
    return count;
  }

  // A texture of so many vectors of four for each cell.
  layers(width, height, count) {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, WebGLEngine.texel(gl, this.format)[0],
      width, height, count);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D_ARRAY, name, gl.NEAREST);
    }
    return texture;
  }

  // What draws to layers of such a texture, [first, count].
  frameOf(texture, [first, count]) {
    const { gl } = this;
    const frame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    const targets = [];
    for (let i = 0; i < count; ++i) {
      targets.push(gl.COLOR_ATTACHMENT0 + i);
      gl.framebufferTextureLayer(gl.FRAMEBUFFER, targets[i], texture, 0, first + i);
    }
    gl.drawBuffers(targets);
    return frame;
  }

  // A texture that is drawn to and read texel by texel.
  plane(format, width, height) {
    const { gl } = this;
    const [texture, frame] = [gl.createTexture(), gl.createFramebuffer()];
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, format, width, height);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    return { texture, frame, width, height };
  }

  // Groups of channels that one pass writes: [first, count].
  spans() {
    const found = [];
    for (let first = 0; first < GROUPS; first += this.outputs) {
      found.push([first, Math.min(this.outputs, GROUPS - first)]);
    }
    return found;
  }

  load(state) {
    const { gl } = this;
    const [, type] = WebGLEngine.texel(gl, this.format);
    const scale = 127 / this.range;
    const texels = this.format !== 'byte' ? state : Uint8Array.from(state, (value) =>
      Math.min(255, Math.max(0, Math.round(value * scale + 128))));
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.states[this.now]);
    gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, 0, this.width, this.height, GROUPS,
      gl.RGBA, type, texels);
  }

  setControl(bytes) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.control);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, this.width, this.height, gl.RGBA, gl.UNSIGNED_BYTE,
      bytes);
  }

  // The weights of a model in a uniform block, or in a texture where they are too many for one.
  weightsOf(index, hex) {
    const { gl } = this;
    const packed = this.packed[index];
    const data = packed.vectors;
    const inBlock = data.byteLength <= this.blockSize;
    const held = this.weights[index] ?? { inBlock, hex: null };
    if (held.hex === hex || (held.hex !== null && !packed.learned)) return held;
    layKernels(MODELS[index], packed, hex);
    if (inBlock) {
      held.buffer ??= gl.createBuffer();
      gl.bindBuffer(gl.UNIFORM_BUFFER, held.buffer);
      gl.bufferData(gl.UNIFORM_BUFFER, data, gl.DYNAMIC_DRAW);
    } else {
      const rows = Math.ceil(data.length / 4096);
      const padded = new Float32Array(rows * 4096);
      padded.set(data);
      held.texture ??= gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, held.texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, 1024, rows, 0, gl.RGBA, gl.FLOAT, padded);
      for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
        gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
      }
    }
    held.hex = hex;
    this.weights[index] = held;
    return held;
  }

  use(built, source, world) {
    const { gl } = this;
    gl.useProgram(built.program);
    gl.bindVertexArray(this.vertices);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.states[source]);
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_2D, this.control);
    gl.uniform1i(built.at('state'), 0);
    gl.uniform1i(built.at('control'), 1);
    gl.uniform2i(built.at('size'), this.width, this.height);
    gl.uniform2i(built.at('edges'), EDGE_NUMBERS[world.edges[1]], EDGE_NUMBERS[world.edges[0]]);
    gl.uniform1f(built.at('hex'), world.hex);
  }

  // Bind a texture to a sampler of a program.
  sample(built, name, unit, kind, texture) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(kind, texture);
    gl.uniform1i(built.at(name), unit);
  }

  setChance(built, world, index) {
    const { gl } = this;
    gl.uniform2ui(built.at('chance'), world.step >>> 0, world.seed >>> 0);
    gl.uniform1ui(built.at('fireLimit'), world.fireLimits[index]);
    gl.uniform1i(built.at('own'), index);
    gl.uniform1i(built.at('mixed'), world.present.length > 1 ? 1 : 0);
  }

  // Find which cells of a model act, and where they lie when they are packed.
  rankActing(world, index) {
    const { gl } = this;
    const words = this.program('words', glslWords);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.words.frame);
    gl.viewport(0, 0, this.words.width, this.words.height);
    this.use(words, this.now, world);
    this.setChance(words, world, index);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    const ranks = this.program('ranks', glslRanks);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.ranks.frame);
    gl.viewport(0, 0, this.ranks.width, this.ranks.height);
    gl.useProgram(ranks.program);
    this.sample(ranks, 'words', 2, gl.TEXTURE_2D, this.words.texture);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  // Take one step of every model in `world.present` on the cells that are its own.
  step(world) {
    const { gl } = this;
    const target = (this.now + 1) % 3;
    for (const index of world.present) {
      const model = MODELS[index];
      const weights = this.weightsOf(index, world.hex);
      if (packs(model)) this.rankActing(world, index);
      const frames = packs(model) ? this.updates.frames : this.frames[target];
      gl.viewport(0, 0, packs(model) ? this.updates.width : this.width, this.height);
      this.spans().forEach((wanted, span) => {
        const built = this.program(`step ${index} ${span}`, () => glslStep(model,
          this.packed[index], this.range, this.format, weights.inBlock, wanted, this.abreast));
        gl.bindFramebuffer(gl.FRAMEBUFFER, frames[span]);
        this.use(built, this.now, world);
        if (weights.inBlock) gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, weights.buffer);
        else this.sample(built, 'weights', 2, gl.TEXTURE_2D, weights.texture);
        if (packs(model)) this.sample(built, 'ranks', 3, gl.TEXTURE_2D, this.ranks.texture);
        gl.uniform4fv(built.at('taps'), world.taps[index]);
        this.setChance(built, world, index);
        gl.uniform2f(built.at('turned'), Math.cos(world.angle), Math.sin(world.angle));
        gl.uniform2f(built.at('inverse'), 1 / world.dx, 1 / world.dx ** 2);
        gl.uniform1f(built.at('dt'), world.dt);
        gl.uniform1uiv(built.at('streams'), world.fireStreams);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
      });
      gl.viewport(0, 0, this.width, this.height);
      if (!packs(model)) continue;
      this.spans().forEach(([first, count], span) => {
        const built = this.program(`spread ${count}`, () =>
          glslSpread(count, this.abreast));
        gl.bindFramebuffer(gl.FRAMEBUFFER, this.frames[target][span]);
        this.use(built, this.now, world);
        this.sample(built, 'updated', 2, gl.TEXTURE_2D_ARRAY, this.updates.texture);
        this.sample(built, 'ranks', 3, gl.TEXTURE_2D, this.ranks.texture);
        this.setChance(built, world, index);
        gl.uniform1i(built.at('first'), first);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
      });
    }
    let result = target;
    const mortal = world.present.filter((index) => MODELS[index].living);
    if (mortal.length) {
      result = (this.now + 2) % 3;
      this.spans().forEach(([first, count], span) => {
        const built = this.program(`life ${count}`, () => glslLife(this.format, this.range, count));
        gl.bindFramebuffer(gl.FRAMEBUFFER, this.frames[result][span]);
        this.use(built, target, world);
        this.sample(built, 'before', 2, gl.TEXTURE_2D_ARRAY, this.states[this.now]);
        gl.uniform1ui(built.at('mortal'), mortal.reduce((bits, i) => (bits | (1 << i)) >>> 0, 0));
        gl.uniform1iv(built.at('owns'), MODELS.map((model) => model.own));
        gl.uniform1i(built.at('first'), first);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
      });
    }
    this.now = result;
  }

  // Change the cells of a capsule as `change` says, a vector of four for each group of channels.
  brush(world, stroke, radius, change) {
    const { gl } = this;
    const target = (this.now + 1) % 3;
    gl.viewport(0, 0, this.width, this.height);
    this.spans().forEach(([first, count], span) => {
      const built = this.program(`brush ${count}`, () => glslBrush(this.format, this.range, count));
      gl.bindFramebuffer(gl.FRAMEBUFFER, this.frames[target][span]);
      this.use(built, this.now, world);
      gl.uniform4fv(built.at('stroke'), stroke);
      gl.uniform1f(built.at('radius'), radius);
      for (const name of ['keep', 'fill', 'noise']) gl.uniform4fv(built.at(name), change[name]);
      gl.uniform1uiv(built.at('streams'), change.streams);
      gl.uniform1i(built.at('first'), first);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    });
    this.now = target;
  }

  paint(world, view, frame, width, height) {
    const { gl } = this;
    const sighted = this.program('colours', () => glslColours(this.format, this.range));
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.palette);
    gl.viewport(0, 0, this.width, this.height);
    this.use(sighted, this.now, world);
    gl.uniform4fv(sighted.at('looks'), MODELS.flatMap((model) =>
      [model.rgb.scale, model.rgb.offset, model.living ? 1 : 0, 0]));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    const built = this.program('draw', glslDraw);
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.viewport(0, 0, width, height);
    this.use(built, this.now, world);
    this.sample(built, 'colours', 2, gl.TEXTURE_2D, this.colours);
    for (const [name, edge] of [[gl.TEXTURE_WRAP_S, world.edges[1]],
      [gl.TEXTURE_WRAP_T, world.edges[0]]]) {
      gl.texParameteri(gl.TEXTURE_2D, name, edge === 'torus' ? gl.REPEAT : gl.CLAMP_TO_EDGE);
    }
    gl.uniform2f(built.at('corner'), view.x, view.y);
    gl.uniform1f(built.at('pixel'), view.pixel);
    gl.uniform1f(built.at('flip'), frame ? 0 : height);
    gl.uniform1i(built.at('cells'), view.cells ? 1 : 0);
    gl.uniform1i(built.at('straight'), view.straight ? 1 : 0);
    gl.uniform3fv(built.at('paper'), view.paper);
    gl.uniform3fv(built.at('desk'), view.desk);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.bindTexture(gl.TEXTURE_2D, null);
  }

  draw(world, view) {
    this.paint(world, view, null, this.canvas.width, this.canvas.height);
  }

  // Bytes [height][width][4] of a view, not multiplied by alpha yet where the state is.
  async pixels(world, view, width, height) {
    const { gl } = this;
    const texture = gl.createTexture();
    const frame = gl.createFramebuffer();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    this.paint(world, view, frame, width, height);
    const bytes = new Uint8Array(width * height * 4);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    gl.deleteFramebuffer(frame);
    gl.deleteTexture(texture);
    return bytes;
  }

  // The state as vectors of four channels, [group][row][column].
  async read() {
    const { gl } = this;
    const plane = this.width * this.height * 4;
    const state = new Float32Array(plane * GROUPS);
    this.spans().forEach(([first, count], span) => {
      gl.bindFramebuffer(gl.FRAMEBUFFER, this.frames[this.now][span]);
      for (let i = 0; i < count; ++i) {
        gl.readBuffer(gl.COLOR_ATTACHMENT0 + i);
        const into = state.subarray((first + i) * plane, (first + i + 1) * plane);
        if (this.format === 'byte') {
          const bytes = new Uint8Array(plane);
          gl.readPixels(0, 0, this.width, this.height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
          bytes.forEach((value, at) => { into[at] = (value - 128) * this.range / 127; });
        } else {
          gl.readPixels(0, 0, this.width, this.height, gl.RGBA, gl.FLOAT, into);
        }
      }
      gl.readBuffer(gl.COLOR_ATTACHMENT0);
    });
    return state;
  }

  // Whether the work of the last frame is done; slow devices are not given more before.
  idle() {
    const { gl } = this;
    if (this.fence) {
      const status = gl.clientWaitSync(this.fence, 0, 0);
      if (status === gl.TIMEOUT_EXPIRED) return false;
      gl.deleteSync(this.fence);
    }
    this.fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    return true;
  }

  close() {}
}
