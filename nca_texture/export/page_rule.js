// The rule: weights as vectors of four, kernels of any lattice between squares and hexagons,
// chance as an integer hash, and the source of one step in GLSL and WGSL.

const MODELS = JSON.parse(document.getElementById('models').textContent);
const GROUPS = Math.max(...MODELS.map((model) => Math.ceil(model.channels / 4)));

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function halfToFloat(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// Numbers of a tensor {shape, type, scale, data}, as float32 in the order of their axes.
function numbersOf(tensor) {
  if (!tensor) return null;
  const { buffer } = bytesOf(tensor.data);
  if (tensor.type === 'float32') return new Float32Array(buffer);
  if (tensor.type === 'float16') return Float32Array.from(new Uint16Array(buffer), halfToFloat);
  return Float32Array.from(new Int8Array(buffer), (value) => value * tensor.scale);
}

// One stream of vectors, read from front to back. For each four hidden units: their bias, four
// columns of a matrix for each four inputs, four columns for each four channels. Inputs are
// percepts, filter by filter. Rules without a hidden layer have no last part.
function packRule(model) {
  const { channels } = model;
  const groups = Math.ceil(channels / 4);
  const perChannel = model.per_channel ? 1 : model.filters.length;
  const weightIn = numbersOf(model.tensors.weight_in);
  const biasIn = numbersOf(model.tensors.bias_in);
  const weightOut = numbersOf(model.tensors.weight_out);
  const biasOut = numbersOf(model.tensors.bias_out);
  const seen = channels * perChannel;
  const mlp = model.rule === 'mlp';
  const blocks = mlp
    ? [[0, perChannel]]
    : [[0, 1], [channels, perChannel], [channels + seen, 1], [2 * channels + seen, perChannel]];
  const columns = []; // of the padded inputs: the column of weightIn, or -1
  for (const [start, count] of blocks) {
    for (let f = 0; f < count; ++f) {
      for (let c = 0; c < groups * 4; ++c) columns.push(c < channels ? start + c * count + f : -1);
    }
  }
  const width = mlp ? seen : 2 * (channels + seen);
  const rows = mlp ? model.hidden : model.own; // what is held is seen but not changed
  const units = Math.ceil(rows / 4);
  const stream = [];
  for (let h = 0; h < units; ++h) {
    const lanes = [0, 1, 2, 3].map((lane) => h * 4 + lane);
    for (const row of lanes) stream.push(row < rows ? biasIn[row] : 0);
    for (const column of columns) {
      for (const row of lanes) {
        stream.push(row < rows && column >= 0 ? weightIn[row * width + column] : 0);
      }
    }
    if (!mlp) continue;
    for (let g = 0; g < groups; ++g) {
      for (const row of lanes) {
        for (let lane = 0; lane < 4; ++lane) {
          const channel = g * 4 + lane;
          stream.push(row < rows && channel < model.own ? weightOut[channel * rows + row] : 0);
        }
      }
    }
  }
  const biasAt = stream.length / 4;
  if (biasOut) for (let c = 0; c < groups * 4; ++c) stream.push(c < model.own ? biasOut[c] : 0);
  const kernelsAt = stream.length / 4;
  const learned = numbersOf(model.tensors.kernels);
  const count = kernelsAt + (learned ? 18 * perChannel * groups : 0);
  const vectors = new Float32Array(count * 4);
  vectors.set(stream);
  return {
    groups, units, vectors, biasAt, kernelsAt, learned,
    filters: perChannel,
    inputs: columns.length / 4,
    stride: 1 + columns.length + (mlp ? groups * 4 : 0),
    hasBias: Boolean(biasOut),
  };
}

// An axial kernel of hexagons as it lies in stored rows, of which odd ones are half a cell right.
function offsetKernel(kernel, parity) {
  const [a, b, c] = [kernel.slice(0, 3), kernel.slice(3, 6), kernel.slice(6, 9)];
  const row = (pair) => (parity ? [0, ...pair] : [...pair, 0]);
  return [...row(a.slice(1)), ...b, ...row(c.slice(0, 2))];
}

// Kernel of a lattice between squares (hex 0) and hexagons (hex 1), for rows of one parity.
function between(square, axial, hex, parity) {
  const slanted = offsetKernel(axial, parity);
  return square.map((value, k) => value * (1 - hex) + slanted[k] * hex);
}

// Gradients by x and y and second derivatives: [parity][tap] vectors of four, 18 in all.
function tapsOf(model, hex) {
  const taps = new Float32Array(72);
  for (let parity = 0; parity < 2; ++parity) {
    for (let b = 0; b < 4; ++b) {
      const kernel = between(model.basis.square[b + 1], model.basis.hex[b + 1], hex, parity);
      kernel.forEach((value, k) => { taps[(parity * 9 + k) * 4 + b] = value; });
    }
  }
  return taps;
}

// Write learned kernels behind the stream: [parity][tap][filter][group].
function layKernels(model, packed, hex) {
  const { learned, kernelsAt, filters, groups, vectors } = packed;
  if (!learned) return;
  for (let parity = 0; parity < 2; ++parity) {
    for (let c = 0; c < model.channels; ++c) {
      for (let f = 0; f < filters; ++f) {
        const start = (c * filters + f) * 9;
        const kernel = Array.from(learned.subarray(start, start + 9));
        between(kernel, kernel, hex, parity).forEach((value, k) => {
          const vector = kernelsAt + ((parity * 9 + k) * filters + f) * groups + (c >> 2);
          vectors[vector * 4 + (c & 3)] = value;
        });
      }
    }
  }
}

// --- chance -------------------------------------------------------------------------------------

// pcg4d: Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 2020.
function pcg4d(x, y, z, w) {
  const mix = (value) => (Math.imul(value, 1664525) + 1013904223) | 0;
  [x, y, z, w] = [mix(x), mix(y), mix(z), mix(w)];
  x = (x + Math.imul(y, w)) | 0; y = (y + Math.imul(z, x)) | 0;
  z = (z + Math.imul(x, y)) | 0; w = (w + Math.imul(y, z)) | 0;
  x ^= x >>> 16; y ^= y >>> 16; z ^= z >>> 16; w ^= w >>> 16;
  x = (x + Math.imul(y, w)) | 0; y = (y + Math.imul(z, x)) | 0;
  z = (z + Math.imul(x, y)) | 0; w = (w + Math.imul(y, z)) | 0;
  return [x, y, z, w];
}

const SEED_STATE = 1;
const FIRE_EACH = 4;
const streamSeed = (seed, purpose, index) => pcg4d(index, purpose, 0, seed)[3] >>> 0;

// A number is its own seed; any other text is hashed, as the command line does (BLAKE2s).
function seedNumber(text) {
  const plain = text.trim();
  if (/^[+-]?\d{1,15}$/.test(plain)) return Number(BigInt.asUintN(32, BigInt(plain)));
  const message = new TextEncoder().encode(text);
  const start = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
  const sigma = [
    '0123456789abcdef', 'ea489fd61c02b753', 'b8c052fdae367194', '7931dcbe265a40f8',
    '905724afe1bc683d', '2c6a0b834d75fe19', 'c51fed4a0763928b', 'db7ec13950f4862a',
    '6fe9b308c2d714a5', 'a2847615fb9e3cd0'];
  const h = [...start];
  h[0] ^= 0x01010004; // four bytes of digest, no key
  const rotate = (value, by) => (value >>> by) | (value << (32 - by));
  const blocks = Math.max(1, Math.ceil(message.length / 64));
  for (let block = 0; block < blocks; ++block) {
    const bytes = new Uint8Array(64);
    bytes.set(message.subarray(block * 64, block * 64 + 64));
    const words = new Uint32Array(bytes.buffer);
    const v = [...h, ...start];
    v[12] ^= Math.min(message.length, (block + 1) * 64);
    if (block === blocks - 1) v[14] = ~v[14];
    const quarter = (a, b, c, d, x, y) => {
      v[a] = (v[a] + v[b] + x) | 0; v[d] = rotate(v[d] ^ v[a], 16);
      v[c] = (v[c] + v[d]) | 0; v[b] = rotate(v[b] ^ v[c], 12);
      v[a] = (v[a] + v[b] + y) | 0; v[d] = rotate(v[d] ^ v[a], 8);
      v[c] = (v[c] + v[d]) | 0; v[b] = rotate(v[b] ^ v[c], 7);
    };
    for (const order of sigma) {
      const m = [...order].map((digit) => words[parseInt(digit, 16)]);
      quarter(0, 4, 8, 12, m[0], m[1]); quarter(1, 5, 9, 13, m[2], m[3]);
      quarter(2, 6, 10, 14, m[4], m[5]); quarter(3, 7, 11, 15, m[6], m[7]);
      quarter(0, 5, 10, 15, m[8], m[9]); quarter(1, 6, 11, 12, m[10], m[11]);
      quarter(2, 7, 8, 13, m[12], m[13]); quarter(3, 4, 9, 14, m[14], m[15]);
    }
    for (let i = 0; i < 8; ++i) h[i] ^= v[i] ^ v[i + 8];
  }
  return h[0] >>> 0;
}

// Weights of classes times what is learned, or written, for each: numbers of one cell.
function mixed(rows, weights) {
  return rows[0].map((_, i) => rows.reduce((sum, row, c) => sum + row[i] * weights[c], 0));
}

// What a seed of classes mixed by `weights` is made of, for the channels from `first` on.
function learnedSeed(model, weights) {
  const first = model.living ? 4 : 0;
  return model.seeds ? { first, numbers: mixed(model.seeds, weights) } : null;
}

// State to start from: vectors of four channels, [group][row][column].
function seedState(model, seed, width, height, weights) {
  const state = new Float32Array(GROUPS * height * width * 4);
  const { kind, amount, place } = model.seed;
  const at = (c, cell) => ((c >> 2) * height * width + cell) * 4 + (c & 3);
  if (kind === 'noise') {
    for (let g = 0; g * 4 < model.own; ++g) {
      const stream = streamSeed(seed, SEED_STATE, g);
      const lanes = Math.min(4, model.own - g * 4);
      for (let cell = 0; cell < width * height; ++cell) {
        const bits = pcg4d(cell % width, Math.floor(cell / width), 0, stream);
        for (let lane = 0; lane < lanes; ++lane) {
          state[at(g * 4 + lane, cell)] = ((bits[lane] >>> 8) / 2 ** 24 - 0.5) * amount;
        }
      }
    }
  }
  const y = Math.min(Math.trunc(place[0] * height), height - 1);
  const x = Math.min(Math.trunc(place[1] * width), width - 1);
  const planted = y * width + x;
  if (kind === 'cell') for (let c = 3; c < model.own; ++c) state[at(c, planted)] = 1;
  const learned = learnedSeed(model, weights);
  learned?.numbers.forEach((value, i) => {
    const c = learned.first + i;
    if (kind === 'cell') state[at(c, planted)] = value;
    else for (let cell = 0; cell < width * height; ++cell) state[at(c, cell)] += value;
  });
  if (model.codes) {
    mixed(model.codes, weights).forEach((value, i) => {
      for (let cell = 0; cell < width * height; ++cell) state[at(model.own + i, cell)] = value;
    });
  }
  return state;
}

// --- the source of a step -----------------------------------------------------------------------

const GLSL = {
  vec: 'vec4',
  place: 'ivec2',
  variable: (name, value) => `vec4 ${name} = ${value};`,
  loop: (name, count) => `for (int ${name} = 0; ${name} < ${count}; ++${name})`,
  integer: (name, value) => `int ${name} = ${value};`,
};
const WGSL = {
  vec: 'vec4f',
  place: 'vec2i',
  variable: (name, value) => `var ${name} = ${value};`,
  loop: (name, count) => `for (var ${name} = 0; ${name} < ${count}; ${name}++)`,
  integer: (name, value) => `let ${name} = ${value};`,
};

const decimal = (value) => (Number.isInteger(value) ? `${value}.0` : String(value));

// Whether engines pack the cells of `model` that act: not where nearly all do.
const packs = (model) => model.fire_by === 'cell' && model.fire_rate < 0.8;

// Statements that turn what a cell sees into `u0`, `u1`, ...: its update, before the fire rate; or
// what several cells of a row see, whose names end in `marks`, so that a weight is read once for all.
// Around them stand: `cell`; `columns` of the cells around and whether there are any, `across`; turn
// (cosine, sine); for all cells `parity`, `rows` and `down`, inverse (1 / dx, 1 / dx^2); tap(k)
// [gx, gy, xx, yy], fetch(p, g), W(k).
function ruleSource(model, packed, d, marks = ['']) {
  const { groups, filters, units, stride, inputs } = packed;
  const lines = [];
  const zero = `${d.vec}(0.0)`;
  const each = (count, make) => { for (let i = 0; i < count; ++i) lines.push(make(i)); };
  const eachOf = (count, make) => { for (const m of marks) each(count, (i) => make(i, m)); };
  const clampTo = (name, limit) => (limit === null ? '' :
    `${name} = clamp(${name}, ${d.vec}(${decimal(-limit)}), ${d.vec}(${decimal(limit)}));`);
  for (const m of marks) lines.push(...perceptSource(model, packed, d, m));
  if (model.limits.percept !== null) {
    eachOf(filters * groups, (i, m) => clampTo(`x${i}${m}`, model.limits.percept));
  }
  lines.push(d.variable('w', zero));
  // Add four columns of a matrix, from W(first) on, times a vector.
  const product = (first, sum, name) => ['x', 'y', 'z', 'w'].map((lane, i) =>
    `w = W(${first} + ${i}); ${marks.map((m) => `${sum}${m} += w * ${name}${m}.${lane};`).join(' ')}`)
    .join(' ');
  if (model.rule === 'mlp') {
    eachOf(groups, (g, m) =>
      d.variable(`u${g}${m}`, packed.hasBias ? `W(${packed.biasAt + g})` : zero));
    const most = model.limits.hidden;
    lines.push(`${d.loop('h', units)} {`, d.integer('k', `h * ${stride}`), 'w = W(k);');
    for (const m of marks) lines.push(d.variable(`a${m}`, 'w'));
    each(inputs, (i) => product(`k + ${1 + i * 4}`, 'a', `x${i}`));
    for (const m of marks) {
      lines.push(most === null ? `a${m} = max(a${m}, ${zero});` :
        `a${m} = clamp(a${m}, ${zero}, ${d.vec}(${decimal(most)}));`);
    }
    each(groups, (g) => product(`k + ${1 + (inputs + g) * 4}`, `u${g}`, 'a'));
    lines.push('}');
  } else {
    eachOf(groups, (g, m) => d.variable(`u${g}${m}`, g < units ? `W(${g * stride})` : zero));
    const plain = [...Array(groups).keys()].map((g) => `c${g}`);
    plain.push(...[...Array(filters * groups).keys()].map((i) => `x${i}`));
    [...plain, ...plain].forEach((name, i) => {
      lines.push('{');
      for (const m of marks) {
        lines.push(d.variable(`s${m}`, i < plain.length ? name + m : `abs(${name}${m})`));
      }
      each(units, (g) => product(`${g * stride + 1 + i * 4}`, `u${g}`, 's'));
      lines.push('}');
    });
  }
  if (model.limits.update !== null) {
    eachOf(groups, (g, m) => clampTo(`u${g}${m}`, model.limits.update));
  }
  return lines.join('\n    ');
}

// The part of it that looks around: `c0`, ...: the state of the cell, `x0`, ...: its percepts.
function perceptSource(model, packed, d, m) {
  const { groups, filters } = packed;
  const lines = [];
  const zero = `${d.vec}(0.0)`;
  const each = (count, make) => { for (let i = 0; i < count; ++i) lines.push(make(i)); };
  const names = model.filters;
  each(groups, (g) => d.variable(`c${g}${m}`, `fetch(cell${m}, ${g})`));
  const lanes = (k) => ['xyz'[k % 3], 'xyz'[Math.floor(k / 3)]];
  const inside = (k) => `(across${m}.${lanes(k)[0]} * down.${lanes(k)[1]})`;
  const around = (k, g) => (k === 4 ? `c${g}${m}` :
    `fetch(${d.place}(columns${m}.${lanes(k)[0]}, rows.${lanes(k)[1]}), ${g})`);
  if (packed.learned) {
    each(filters * groups, (i) => d.variable(`x${i}${m}`, zero));
    lines.push('{', d.integer('first', `${packed.kernelsAt} + parity * ${9 * filters * groups}`));
    each(9, (k) => Array.from({ length: groups }, (_, g) =>
      `{ ${d.variable('v', `${inside(k)} * ${around(k, g)}`)} ` +
      Array.from({ length: filters }, (__, f) =>
        `x${f * groups + g}${m} += W(first + ${(k * filters + f) * groups + g}) * v;`).join(' ') +
      ' }').join('\n'));
    lines.push('}');
    return lines;
  }
  const slopes = names.some((name) => name.startsWith('gradient'));
  const curves = names.some((name) => name.startsWith('laplacian'));
  const sums = [...(slopes ? ['gx', 'gy'] : []), ...(curves ? ['xx', 'yy'] : [])];
  const lane = { gx: 'x', gy: 'y', xx: 'z', yy: 'w' };
  for (const sum of sums) each(groups, (g) => d.variable(`${sum}${g}${m}`, zero));
  each(9, (k) => `{ ${d.variable('t', `${inside(k)} * tap(${k})`)} ` +
    Array.from({ length: groups }, (_, g) => `{ ${d.variable('v', around(k, g))} ` +
      sums.map((sum) => `${sum}${g}${m} += t.${lane[sum]} * v;`).join(' ') + ' }').join(' ') + ' }');
  const seen = {
    identity: (g) => `c${g}${m}`,
    gradient_x: (g) => `(inverse.x * (turn${m}.x * gx${g}${m} - turn${m}.y * gy${g}${m}))`,
    gradient_y: (g) => `(inverse.x * (turn${m}.y * gx${g}${m} + turn${m}.x * gy${g}${m}))`,
    laplacian: (g) => `(inverse.y * (xx${g}${m} + yy${g}${m}))`,
    laplacian_x: (g) => `(inverse.y * xx${g}${m})`,
    laplacian_y: (g) => `(inverse.y * yy${g}${m})`,
  };
  if (model.per_channel) {
    each(groups, (g) => d.variable(`x${g}${m}`, `${d.vec}(${[0, 1, 2, 3].map((i) => {
      const name = names[g * 4 + i];
      return name ? `${seen[name](g)}.${'xyzw'[i]}` : '0.0';
    }).join(', ')})`));
  } else {
    names.forEach((name, f) => each(groups, (g) => d.variable(`x${f * groups + g}${m}`,
      seen[name](g))));
  }
  return lines;
}
