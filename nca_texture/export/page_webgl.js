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

function glslStep(model, packed, range, format, inBlock, first, count) {
  const weights = inBlock
    ? `layout(std140) uniform Weights { vec4 weights[${packed.vectors.length / 4}]; };
vec4 W(int k) { return weights[k]; }`
    : `uniform sampler2D weights;
vec4 W(int k) { return texelFetch(weights, ivec2(k & 1023, k >> 10), 0); }`;
  const outs = [...Array(count).keys()];
  const written = outs.map((i) => {
    const g = first + i;
    return g < packed.groups
      ? `o${i} = acts ? encode(limited(c${g} + u${g}), dice) : raw(cell, ${g});`
      : `o${i} = raw(cell, ${g});`;
  });
  const { state } = model.limits;
  const each = model.fire_by === 'element';
  return `${GLSL_HEAD}${GLSL_PCG}${glslNumbers(format, range)}
${weights}
uniform vec4 taps[18];
uniform uvec2 chance; // step, seed
uniform uint fireLimit;
uniform int own;
uniform bool mixed;
uniform vec2 turned, inverse;
uniform float dt;
uniform uint streams[${GROUPS}]; // of chance for each number, not for each cell
${outs.map((i) => `layout(location = ${i}) out vec4 o${i};`).join('\n')}
vec4 limited(vec4 v) { return ${state === null ? 'v' :
    `clamp(v, ${decimal(-state)}, ${decimal(state)})`}; }
ivec2 cell;
int parity;
ivec2 near(int k) { return max(beyond(cell + ivec2(k % 3 - 1, k / 3 - 1)), 0); }
float inside(int k) {
  ivec2 at = beyond(cell + ivec2(k % 3 - 1, k / 3 - 1));
  return at.x < 0 || at.y < 0 ? 0.0 : 1.0;
}
vec4 tap(int k) { return taps[parity * 9 + k]; }
vec4 fetch(ivec2 at, int group) { return decode(raw(at, group)); }
vec4 fires(int group, uint most) {
  uvec4 bits = pcg4d(uvec4(uvec2(cell), chance.x, streams[group])) >> 8u;
  return vec4(lessThan(bits, uvec4(most)));
}
void main() {
  cell = ivec2(gl_FragCoord.xy);
  parity = cell.y & 1;
  vec4 local = texelFetch(control, cell, 0) * 255.0;
  if (mixed && int(local.x + 0.5) != own) discard;
  uvec4 bits = pcg4d(uvec4(uvec2(cell), chance));
  uint most = local.y > 254.5 ? fireLimit : uint(float(fireLimit) * local.y / 255.0);
  bool acts = ${each ? 'true' : '(bits.x >> 8u) < most'};
  vec2 turn = turned;
  vec2 combed = (local.zw - 128.0) / 127.0;
  if (combed.x < 0.9999) {
    combed = normalize(combed);
    turn = vec2(turn.x * combed.x - turn.y * combed.y, turn.x * combed.y + turn.y * combed.x);
  }
  vec4 dice = vec4(pcg4d(bits) >> 8u) / 16777216.0;
  ${[...Array(packed.groups).keys()].map((g) => `vec4 C${g}, U${g};`).join(' ')}
  if (acts) {
    ${ruleSource(model, packed, GLSL)}
    ${[...Array(packed.groups).keys()].map((g) => `C${g} = c${g}; U${g} = u${g} * dt${each ? ` * fires(${g}, most)` : ''};`).join(' ')}
  }
  ${written.join('\n  ').replace(/\b([cu])(\d+)\b/g, (_, kind, g) => `${kind.toUpperCase()}${g}`)}
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
    ivec2 at = beyond(cell + ivec2(i, j));
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
    const half = float || gl.getExtension('EXT_color_buffer_half_float');
    const can = [...(float ? ['float'] : []), ...(half ? ['half'] : []), 'byte'];
    this.formats = can.filter((name) => this.renders(name));
    this.format = this.formats.includes(format) ? format : this.formats[0];
    this.range = Math.max(...MODELS.map((model) => model.range));
    this.outputs = Math.min(GROUPS, gl.getParameter(gl.MAX_DRAW_BUFFERS));
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
    this.states = [0, 1, 2].map(() => {
      const texture = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
      gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, WebGLEngine.texel(gl, this.format)[0],
        width, height, GROUPS);
      for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
        gl.texParameteri(gl.TEXTURE_2D_ARRAY, name, gl.NEAREST);
      }
      return texture;
    });
    this.frames = this.states.map((texture) => this.spans().map(([first, count]) => {
      const frame = gl.createFramebuffer();
      gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
      const targets = [];
      for (let i = 0; i < count; ++i) {
        targets.push(gl.COLOR_ATTACHMENT0 + i);
        gl.framebufferTextureLayer(gl.FRAMEBUFFER, targets[i], texture, 0, first + i);
      }
      gl.drawBuffers(targets);
      return frame;
    }));
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

  // Take one step of every model in `world.present` on the cells that are its own.
  step(world) {
    const { gl } = this;
    gl.viewport(0, 0, this.width, this.height);
    const target = (this.now + 1) % 3;
    for (const index of world.present) {
      const model = MODELS[index];
      const weights = this.weightsOf(index, world.hex);
      this.spans().forEach(([first, count], span) => {
        const built = this.program(`step ${index} ${span}`, () => glslStep(model,
          this.packed[index], this.range, this.format, weights.inBlock, first, count));
        gl.bindFramebuffer(gl.FRAMEBUFFER, this.frames[target][span]);
        this.use(built, this.now, world);
        if (weights.inBlock) {
          gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, weights.buffer);
        } else {
          gl.activeTexture(gl.TEXTURE2);
          gl.bindTexture(gl.TEXTURE_2D, weights.texture);
          gl.uniform1i(built.at('weights'), 2);
        }
        gl.uniform4fv(built.at('taps'), world.taps[index]);
        gl.uniform2ui(built.at('chance'), world.step >>> 0, world.seed >>> 0);
        gl.uniform1ui(built.at('fireLimit'), world.fireLimits[index]);
        gl.uniform1i(built.at('own'), index);
        gl.uniform1i(built.at('mixed'), world.present.length > 1 ? 1 : 0);
        gl.uniform2f(built.at('turned'), Math.cos(world.angle), Math.sin(world.angle));
        gl.uniform2f(built.at('inverse'), 1 / world.dx, 1 / world.dx ** 2);
        gl.uniform1f(built.at('dt'), world.dt);
        gl.uniform1uiv(built.at('streams'), world.fireStreams);
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
        gl.activeTexture(gl.TEXTURE2);
        gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.states[this.now]);
        gl.uniform1i(built.at('before'), 2);
        gl.uniform1ui(built.at('mortal'), mortal.reduce((bits, i) => (bits | (1 << i)) >>> 0, 0));
        gl.uniform1iv(built.at('owns'), MODELS.map((model) => model.own));
        gl.uniform1i(built.at('first'), first);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
        gl.bindTexture(gl.TEXTURE_2D_ARRAY, null);
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
    gl.activeTexture(gl.TEXTURE2);
    gl.bindTexture(gl.TEXTURE_2D, this.colours);
    for (const [name, edge] of [[gl.TEXTURE_WRAP_S, world.edges[1]],
      [gl.TEXTURE_WRAP_T, world.edges[0]]]) {
      gl.texParameteri(gl.TEXTURE_2D, name, edge === 'torus' ? gl.REPEAT : gl.CLAMP_TO_EDGE);
    }
    gl.uniform1i(built.at('colours'), 2);
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
