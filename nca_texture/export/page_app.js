// The page: what is shown and touched. It asks an engine for steps and pictures.

const $ = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const PACES = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32];
const TOOLS = ['erase', 'plant', 'paint', 'comb', 'slow', 'move'];
const PAPER = [0.949, 0.941, 0.922];
const DESK = [0.051, 0.055, 0.067];
const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
const hash = new URLSearchParams(location.hash.slice(1));
const number = (name, otherwise) => {
  const value = Number.parseFloat(hash.get(name));
  return Number.isFinite(value) ? value : otherwise;
};

const app = {
  model: Math.max(0, MODELS.findIndex((model) => model.name === hash.get('model'))),
  choice: null, // what is painted: { kind: 'model' or 'class', index }
  share: 1, // how much of a class is painted; the rest is as elsewhere
  weights: [1], // of the classes of the model
  seedText: hash.get('seed') ?? '0',
  seed: 0,
  steps: 0,
  pace: clamp(number('pace', 0), -4, 5),
  debt: 0,
  fire: null, // as each model has it, or one rate for all
  dt: 1, dx: 1, angle: 0, hex: 0,
  width: 0, height: 0, fitted: true,
  paused: hash.get('paused') === '1',
  stopAt: Infinity,
  tool: 'erase', radius: 12, local: 0,
  cells: hash.get('cells') === '1',
  view: { x: 0, y: 0, pixel: 1 },
  sharpness: 1, // pixels of the canvas for one of the screen
  control: new Uint8Array(0), // model, speed, cosine, sine of every cell
  controlDirty: true,
  touched: 0, sight: '', // how often something but time changed; what was drawn last
  pointers: new Map(),
  engine: null,
  pointer: null, // where the brush is: canvas pixels
};

const base = () => MODELS[app.model];
const rowHeight = () => 1 + (Math.sqrt(3) / 2 - 1) * app.hex;

// --- the world ----------------------------------------------------------------------------------

function presentModels() {
  const found = new Set();
  for (let i = 0; i < app.control.length; i += 4) found.add(app.control[i]);
  return [...found].sort((a, b) => a - b);
}

let worldCache = null;
function world() {
  if (!worldCache) {
    worldCache = {
      seed: app.seed,
      present: app.present,
      edges: base().edges,
      hex: app.hex, dt: app.dt, dx: app.dx, angle: app.angle,
      taps: MODELS.map((model) => (model.basis ? tapsOf(model, app.hex) : new Float32Array(72))),
      fireLimits: MODELS.map((model) =>
        (app.fire === null ? model.fire_limit : Math.round(app.fire * 2 ** 24))),
      fireStreams: Array.from({ length: GROUPS }, (_, g) => streamSeed(app.seed, FIRE_EACH, g)),
    };
  }
  worldCache.step = app.steps;
  return worldCache;
}
const changed = () => { worldCache = null; };

function takeStep() {
  if (app.controlDirty) {
    app.present = presentModels();
    app.engine.setControl(app.control);
    app.controlDirty = false;
    changed();
  }
  app.engine.step(world());
  app.steps += 1;
}

function plainControl() {
  app.control = new Uint8Array(app.width * app.height * 4);
  for (let i = 0; i < app.control.length; i += 4) app.control.set([app.model, 255, 255, 128], i);
  app.present = [app.model];
  app.controlDirty = true;
  app.fieldPainted = app.speedPainted = app.modelPainted = false;
  $('preset').value = 'straight';
  changed();
}

function fitSize() {
  const { living, size } = base();
  if (living) return [size[1], size[0] + (size[0] % 2)];
  const coarse = innerWidth < 700 ? 2.6 : 3;
  let [width, height] = [innerWidth / coarse, innerHeight / coarse / rowHeight()];
  const most = app.budget ?? 150000;
  const shrink = Math.min(1, Math.sqrt(most / (width * height)));
  return [Math.max(16, 2 * Math.round(width * shrink / 2)),
    Math.max(16, 2 * Math.round(height * shrink / 2))];
}

function setSize(width, height) {
  const longest = Math.min(2048, app.engine.longest);
  const shrink = Math.min(1, Math.sqrt(app.engine.mostCells / (width * height)));
  app.width = clamp(Math.floor(width * shrink), 4, longest);
  app.height = clamp(2 * Math.floor(height * shrink / 2), 4, longest);
  app.engine.resize(app.width, app.height);
  plainControl();
  [$('width').value, $('height').value] = [app.width, app.height];
  restart();
  fitView();
}

function restart() {
  app.seed = seedNumber(app.seedText);
  app.steps = 0;
  app.debt = 0;
  app.engine.load(seedState(base(), app.seed, app.width, app.height, app.weights));
  app.touched += 1;
  app.stopAt = still && !hash.has('paused') ? base().steps : Infinity;
  changed();
  writeHash();
}

function writeHash() {
  const parts = new URLSearchParams({ seed: app.seedText });
  if (MODELS.length > 1) parts.set('model', base().name);
  if (!app.fitted) parts.set('size', `${app.width}x${app.height}`);
  for (const name of ['engine', 'state']) if (hash.get(name)) parts.set(name, hash.get(name));
  try {
    history.replaceState(null, '', `#${parts}`);
  } catch { /* some browsers forbid it for pages from the disk */ }
}

// --- the view -----------------------------------------------------------------------------------

const canvas = $('world');

function whole() { return [app.width, app.height * rowHeight()]; }

function fitPixel() {
  const [across, down] = whole();
  const [x, y] = [across / canvas.width, down / canvas.height];
  const covers = base().edges.every((edge) => edge === 'torus') && !base().living;
  return covers ? Math.min(x, y) : Math.max(x, y) * 1.12;
}

function fitView() {
  const [across, down] = whole();
  app.fit = fitPixel();
  app.view.pixel = app.fit;
  app.view.x = (across - canvas.width * app.fit) / 2;
  app.view.y = (down - canvas.height * app.fit) / 2;
  showZoom();
}

function zoomAt(factor, x, y) {
  const pixel = clamp(app.view.pixel / factor, app.fit / 32, app.fit * 3);
  app.view.x += x * (app.view.pixel - pixel);
  app.view.y += y * (app.view.pixel - pixel);
  app.view.pixel = pixel;
  showZoom();
}

function resizeCanvas() {
  const ratio = Math.min(devicePixelRatio || 1, 2) * app.sharpness;
  const [width, height] = [Math.round(innerWidth * ratio), Math.round(innerHeight * ratio)];
  if (canvas.width === width && canvas.height === height) return;
  const middle = [app.view.x + canvas.width * app.view.pixel / 2,
    app.view.y + canvas.height * app.view.pixel / 2];
  const zoom = app.fit ? app.fit / app.view.pixel : 1;
  for (const each of [canvas, $('field')]) [each.width, each.height] = [width, height];
  if (!app.width) return;
  app.fit = fitPixel();
  app.view.pixel = app.fit / zoom;
  app.view.x = middle[0] - width * app.view.pixel / 2;
  app.view.y = middle[1] - height * app.view.pixel / 2;
}

function lookOf(extra = {}) {
  return { ...app.view, cells: app.cells, straight: false, paper: PAPER, desk: DESK, ...extra };
}

const ratioOf = () => canvas.width / innerWidth;
function placeOf(clientX, clientY) { // on the picture: cells across, picture heights down
  return [app.view.x + clientX * ratioOf() * app.view.pixel,
    app.view.y + clientY * ratioOf() * app.view.pixel];
}

// Little lines along which the texture's own x axis points.
function drawField() {
  const sheet = $('field').getContext('2d');
  sheet.clearRect(0, 0, sheet.canvas.width, sheet.canvas.height);
  if (app.tool !== 'comb') return;
  const gap = 26 * ratioOf();
  sheet.lineCap = 'round';
  for (const [colour, width] of [['#000a', 3.4], ['#fffd', 1.6]]) {
    sheet.strokeStyle = colour;
    sheet.lineWidth = width * ratioOf();
    sheet.beginPath();
    for (let y = gap / 2; y < sheet.canvas.height; y += gap) {
      for (let x = gap / 2; x < sheet.canvas.width; x += gap) {
        const at = cellAt(app.view.x + x * app.view.pixel, app.view.y + y * app.view.pixel);
        if (!at) continue;
        const i = (at[1] * app.width + at[0]) * 4;
        const angle = app.angle + Math.atan2(app.control[i + 3] - 128, app.control[i + 2] - 128);
        const [dx, dy] = [Math.cos(angle) * gap * 0.32, -Math.sin(angle) * gap * 0.32];
        sheet.moveTo(x - dx, y - dy);
        sheet.lineTo(x + dx, y + dy);
      }
    }
    sheet.stroke();
  }
}

function wrapped(index, size, edge) {
  if (edge === 'torus') return ((index % size) + size) % size;
  return index >= 0 && index < size ? index : -1;
}

function cellAt(x, y) {
  const row = Math.floor(y / rowHeight());
  const shift = ((row & 1) === 1 ? 0.25 : -0.25) * app.hex;
  const at = [wrapped(Math.floor(x - shift), app.width, base().edges[1]),
    wrapped(row, app.height, base().edges[0])];
  return Math.min(...at) < 0 ? null : at;
}

// --- brushes ------------------------------------------------------------------------------------

// Visit the cells of a capsule: act(index into control, distance / radius).
function capsule([x0, y0], [x1, y1], radius, act) {
  const height = rowHeight();
  const [dx, dy] = [x1 - x0, y1 - y0];
  const long = Math.max(dx * dx + dy * dy, 1e-6);
  for (let row = Math.floor((Math.min(y0, y1) - radius) / height);
    row <= Math.ceil((Math.max(y0, y1) + radius) / height); ++row) {
    const y = wrapped(row, app.height, base().edges[0]);
    if (y < 0) continue;
    const shift = ((row & 1) === 1 ? 0.25 : -0.25) * app.hex;
    for (let column = Math.floor(Math.min(x0, x1) - radius - 1);
      column <= Math.ceil(Math.max(x0, x1) + radius); ++column) {
      const x = wrapped(column, app.width, base().edges[1]);
      if (x < 0) continue;
      const [px, py] = [column + 0.5 + shift - x0, (row + 0.5) * height - y0];
      const t = clamp((px * dx + py * dy) / long, 0, 1);
      const away = Math.hypot(px - dx * t, py - dy * t) / radius;
      if (away <= 1) act((y * app.width + x) * 4, away);
    }
  }
}

// What a brush does to each channel: how much stays, what is put there, how much noise is added.
function changeOf(kind, weights = app.weights) {
  const model = base();
  const [keep, fill, noise] = [0, 0, 0].map(() => new Float32Array(4 * GROUPS));
  keep.fill(1);
  const { own } = model;
  if (kind !== 'tell') {
    keep.fill(0, 0, own);
    if (model.seed.kind === 'noise') noise.fill(model.seed.amount, 0, own);
    const learned = learnedSeed(model, weights);
    if (kind === 'plant') fill.fill(1, 3, own);
    if (kind === 'plant' || model.seed.kind !== 'cell') learned && fill.set(learned.numbers, learned.first);
  }
  if (kind !== 'erase' && model.codes) {
    fill.set(mixed(model.codes, weights), own);
    keep.fill(0, own, model.channels);
  }
  const streams = Uint32Array.from({ length: GROUPS }, (_, g) => streamSeed(app.seed, SEED_STATE, g));
  return { keep, fill, noise, streams };
}

// The weights of classes that the brush paints.
function paintedWeights() {
  return app.weights.map((weight, i) =>
    weight * (1 - app.share) + (i === app.choice.index ? app.share : 0));
}

// Tell all cells what class they are of; where nothing is held, only a seed can tell.
function tellAll() {
  if (!base().codes) { restart(); return; }
  app.engine.brush(world(), [0, 0, 0, 0], 1e6, changeOf('tell'));
  app.touched += 1;
}

function plant(place, weights) {
  const cell = cellAt(...place);
  if (!cell) return;
  const shift = ((cell[1] & 1) === 1 ? 0.25 : -0.25) * app.hex;
  const centre = [cell[0] + 0.5 + shift, (cell[1] + 0.5) * rowHeight()];
  app.engine.brush(world(), [...centre, ...centre], 0.4, changeOf('plant', weights));
}

function stroke(from, to) {
  const { control } = app;
  if (app.tool === 'erase') {
    app.engine.brush(world(), [...from, ...to], app.radius, changeOf('erase'));
  } else if (app.tool === 'plant') {
    plant(to, app.weights);
  } else if (app.tool === 'paint' && app.choice.kind === 'class') {
    const { codes, seed } = base();
    const weights = paintedWeights();
    if (!codes && seed.kind === 'cell') plant(to, weights);
    else {
      const change = changeOf(codes ? 'tell' : 'erase', weights);
      app.engine.brush(world(), [...from, ...to], app.radius, change);
    }
  } else if (app.tool === 'paint') {
    capsule(from, to, app.radius, (i) => { control[i] = app.choice.index; });
    app.modelPainted = true;
  } else if (app.tool === 'slow') {
    capsule(from, to, app.radius, (i) => { control[i + 1] = Math.round(app.local * 2.55); });
    app.speedPainted = true;
  } else if (app.tool === 'comb') {
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    const long = Math.hypot(dx, dy);
    if (long < 1e-3) return;
    const angle = Math.atan2(-dy, dx) - app.angle;
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    capsule(from, to, app.radius, (i, away) => {
      const share = Math.min(1, long / 2) * (1 - away * away);
      const mixed = [(control[i + 2] - 128) * (1 - share) + 127 * c * share,
        (control[i + 3] - 128) * (1 - share) + 127 * s * share];
      setDirection(i, Math.atan2(mixed[1], mixed[0]));
    });
    combed();
  }
  if (!['erase', 'plant'].includes(app.tool)) app.controlDirty = true;
  app.touched += 1;
  showOptions();
}

function setDirection(i, angle) {
  app.control[i + 2] = 128 + Math.round(127 * Math.cos(angle));
  app.control[i + 3] = 128 + Math.round(127 * Math.sin(angle));
}

function combed() {
  app.fieldPainted = true;
  $('preset').querySelector('[value=combed]').hidden = false;
  $('preset').value = 'combed';
}

const FIELDS = {
  straight: () => 0,
  vortex: (x, y) => Math.atan2(-y, x) + Math.PI / 2,
  rays: (x, y) => Math.atan2(-y, x),
  waves: (x, y) => Math.sin(x * 2 * Math.PI) * 0.9 + Math.sin(y * 2 * Math.PI) * 0.4,
  bipolar: (x, y) => {
    const pull = (px) => [x - px, y].map((part) => part / (Math.hypot(x - px, y) ** 3 + 1e-6));
    const [a, b] = [pull(-0.25), pull(0.25)];
    return Math.atan2(-(a[1] - b[1]), a[0] - b[0]);
  },
};

function applyField(name) {
  const [across, down] = whole();
  const side = name === 'waves' ? [across, down] : [Math.max(across, down), Math.max(across, down)];
  for (let row = 0; row < app.height; ++row) {
    for (let column = 0; column < app.width; ++column) {
      const x = (column + 0.5 - across / 2) / side[0];
      const y = ((row + 0.5) * rowHeight() - down / 2) / side[1];
      const i = (row * app.width + column) * 4;
      if (name === 'straight') app.control.set([255, 128], i + 2);
      else setDirection(i, FIELDS[name](x, y));
    }
  }
  app.fieldPainted = name !== 'straight';
  app.controlDirty = true;
  showOptions();
}

function forget() {
  for (let i = 0; i < app.control.length; i += 4) {
    if (app.tool === 'paint') app.control[i] = app.model;
    if (app.tool === 'slow') app.control[i + 1] = 255;
    if (app.tool === 'comb') app.control.set([255, 128], i + 2);
  }
  if (app.tool === 'paint') app.modelPainted = false;
  if (app.tool === 'slow') app.speedPainted = false;
  if (app.tool === 'comb') { app.fieldPainted = false; $('preset').value = 'straight'; }
  app.controlDirty = true;
  showOptions();
}

// --- pictures -----------------------------------------------------------------------------------

// The tile: one pixel a cell, or, of hexagons, as many rows as make pixels square.
async function tile() {
  const [width, height] = [app.width, Math.round(app.height * rowHeight())];
  const view = lookOf({ x: 0, y: 0, pixel: 1, cells: app.hex === 0, straight: true });
  const bytes = await app.engine.pixels(world(), view, width, height);
  if (base().living) { // PNG has straight alpha
    for (let i = 0; i < bytes.length; i += 4) {
      const alpha = bytes[i + 3] || 1;
      for (let c = 0; c < 3; ++c) bytes[i + c] = Math.min(255, bytes[i + c] * 255 / alpha);
    }
  }
  return new ImageData(new Uint8ClampedArray(bytes.buffer), width, height);
}

async function save() {
  const image = await tile();
  const sheet = document.createElement('canvas');
  [sheet.width, sheet.height] = [image.width, image.height];
  sheet.getContext('2d').putImageData(image, 0, 0);
  const blob = await new Promise((done) => { sheet.toBlob(done, 'image/png'); });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `${base().name}-${image.width}x${image.height}-seed-${app.seedText}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  const tiles = base().edges.every((edge) => edge === 'torus') ? 'It tiles.' : '';
  toast(`Saved ${image.width} × ${image.height} pixels. ${tiles}`);
  return image;
}

let toastTimer = 0;
function toast(text) {
  $('toast').textContent = text;
  $('toast').hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $('toast').hidden = true; }, 4000);
}

// --- what the controls show ---------------------------------------------------------------------

function showTool() {
  for (const button of $('tools').children) {
    button.setAttribute('aria-pressed', String(button.dataset.tool === app.tool));
  }
  canvas.dataset.tool = app.tool;
  showOptions();
  showCursor();
}

function showOptions() {
  const { tool } = app;
  $('options').hidden = tool === 'move';
  $('option-size').hidden = tool === 'plant';
  $('option-speed').hidden = tool !== 'slow';
  $('option-model').hidden = tool !== 'paint';
  $('option-share').hidden = tool !== 'paint' || app.choice?.kind !== 'class';
  $('share-out').textContent = `${Math.round(app.share * 100)}%`;
  $('forget').hidden = !({ slow: app.speedPainted, comb: app.fieldPainted,
    paint: app.modelPainted }[tool]);
  if (tool === 'plant') $('options').hidden = true;
  $('local-out').textContent = app.local === 0 ? 'frozen' : `${app.local}%`;
  $('radius').value = app.radius;
}

function showZoom() {
  const times = app.fit / app.view.pixel;
  $('zoom').value = Math.round(Math.log2(times) * 10);
  $('zoom-out').textContent = `${times < 10 ? times.toFixed(1) : Math.round(times)}×`;
}

function showCursor() {
  const cursor = $('cursor');
  cursor.hidden = !app.pointer || app.tool === 'move';
  if (cursor.hidden) return;
  const radius = app.tool === 'plant' ? 1 : app.radius;
  const side = Math.max(8, 2 * radius / app.view.pixel / ratioOf());
  cursor.style.cssText = `left:${app.pointer[0]}px;top:${app.pointer[1]}px;` +
    `width:${side}px;height:${side}px`;
}

function showPlay() {
  $('play').querySelector('use').setAttribute('href', app.paused ? '#i-play' : '#i-pause');
  $('play').setAttribute('aria-label', app.paused ? 'Play' : 'Pause');
}

const thousands = (value) => value.toLocaleString('en');

function showModel() {
  const model = base();
  $('title').textContent = model.name;
  $('about').textContent = `A rule of ${thousands(model.parameters)} numbers` +
    (model.source ? `, learned from ${model.source.replace(/^(sample|skimage):/, '')}` : '');
  canvas.setAttribute('aria-label', `${model.name}, growing. Arrow keys move the brush, Enter uses it.`);
  const fire = app.fire ?? model.fire_rate;
  const facts = {
    rule: `${model.channels} channels` + (model.hidden ? `, ${model.hidden} hidden` : `, ${model.rule}`),
    edges: String(model.edges) === 'torus,torus' ? 'wraps: the picture tiles' :
      `${model.edges[1]} left and right, ${model.edges[0]} above and below`,
    weights: model.weights + (model.weights === 'float32' ? '' :
      `: colours differ by ${model.rounding[0].toPrecision(2)} after 32 steps`),
    ...(model.sha256 ? { sha256: model.sha256.slice(0, 16) } : {}),
  };
  $('facts').replaceChildren(...Object.entries(facts).flatMap(([name, text]) => {
    const [term, value] = [document.createElement('dt'), document.createElement('dd')];
    [term.textContent, value.textContent] = [name, text];
    return [term, value];
  }));
  $('fire').value = Math.round(fire * 100);
  $('tools').querySelector('[data-tool=plant]').hidden = model.seed.kind !== 'cell';
  if (app.tool === 'plant' && model.seed.kind !== 'cell') app.tool = 'erase';
  const turns = MODELS.some((each) => each.basis);
  $('fixed').hidden = Boolean(model.basis);
  for (const id of ['angle', 'preset', 'dx']) $(id).disabled = !turns;
  $('tools').querySelector('[data-tool=comb]').hidden = !turns;
  showChips();
  showOuts();
}

function showOuts() {
  const pace = PACES[app.pace + 4];
  $('pace-out').textContent = pace < 1 ? `1/${1 / pace}` : String(pace);
  $('fire-out').textContent = `${$('fire').value}%`;
  $('dt-out').textContent = `${Math.round(app.dt * 100)}%`;
  $('angle-out').textContent = `${Math.round(app.angle * 180 / Math.PI)}°`;
  $('dx-out').textContent = `${Math.round(app.dx * 100)}%`;
  $('hex-out').textContent = app.hex === 0 ? 'none' : app.hex === 1 ? 'all' :
    `${Math.round(app.hex * 100)}%`;
  $('pace').value = app.pace;
  $('dt').value = Math.round(app.dt * 100);
  $('angle').value = Math.round(app.angle * 180 / Math.PI);
  $('dx').value = Math.round(app.dx * 100);
  $('hex').value = Math.round(app.hex * 100);
  $('cells').checked = app.cells;
}

// Chips of which one is chosen: { name, picture, chosen, choose }.
function chips(id, choices) {
  const focused = [...$(id).children].indexOf(document.activeElement);
  $(id).replaceChildren(...choices.map(({ name, picture, chosen, choose }, i) => {
    const chip = document.createElement('button');
    chip.type = 'button';
    chip.className = 'chip';
    chip.setAttribute('role', 'radio');
    chip.setAttribute('aria-checked', String(chosen));
    chip.tabIndex = chosen || (i === 0 && !choices.some((each) => each.chosen)) ? 0 : -1;
    if (picture) {
      const image = document.createElement('img');
      image.src = picture;
      image.alt = '';
      chip.append(image);
    }
    chip.append(name);
    chip.addEventListener('click', choose);
    chip.addEventListener('keydown', (event) => {
      const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!way) return;
      event.preventDefault();
      event.stopPropagation();
      const next = (i + way + choices.length) % choices.length;
      choices[next].choose();
      $(id).children[next]?.focus();
    });
    return chip;
  }));
  $(id).children[focused]?.focus();
  $(id).hidden = choices.length < 2;
}

function showChips() {
  const model = base();
  const classes = model.classes.map((name, index) => ({ name, index, kind: 'class' }));
  const models = MODELS.map((each, index) =>
    ({ name: each.name, index, kind: 'model', picture: each.thumbnail }));
  chips('picker', models.map((each) =>
    ({ ...each, chosen: each.index === app.model, choose: () => chooseModel(each.index) })));
  chips('classes', classes.map((each) =>
    ({ ...each, chosen: app.weights[each.index] === 1, choose: () => chooseClass(each.index) })));
  const choices = [...(classes.length > 1 ? classes : []), ...(models.length > 1 ? models : [])];
  const same = (each) => each.kind === app.choice?.kind && each.index === app.choice.index;
  if (!choices.some(same)) {
    const other = choices.find((each) => each.kind === 'class' ? app.weights[each.index] !== 1 :
      each.index !== app.model);
    app.choice = other ? { kind: other.kind, index: other.index } : null;
  }
  chips('option-model', choices.map((each) => ({ ...each, chosen: same(each), choose: () => {
    app.choice = { kind: each.kind, index: each.index };
    showChips();
    showOptions();
  } })));
  $('tools').querySelector('[data-tool=paint]').hidden = choices.length < 2;
  $('mixing').hidden = classes.length < 2;
  if ($('mix').children.length !== classes.length) {
    $('mix').replaceChildren(...classes.map(({ name, index }) => {
      const row = document.createElement('label');
      row.className = 'row';
      const [text, slider] = [document.createElement('span'), document.createElement('input')];
      text.textContent = name;
      Object.assign(slider, { type: 'range', min: 0, max: 100, step: 1 });
      slider.addEventListener('input', () => {
        const shares = [...$('mix').querySelectorAll('input')].map((each) => Number(each.value));
        const sum = shares.reduce((a, b) => a + b, 0);
        app.weights = sum ? shares.map((share) => share / sum) : app.weights;
        tellAll();
        showChips();
      });
      row.append(text, slider);
      return row;
    }));
  }
  [...$('mix').querySelectorAll('input')].forEach((slider, i) => {
    if (slider !== document.activeElement) slider.value = Math.round(app.weights[i] * 100);
  });
}

function chooseClass(index) {
  app.weights = app.weights.map((_, i) => (i === index ? 1 : 0));
  tellAll();
  showChips();
}

function firstClass() {
  const { classes } = base();
  app.weights = Array.from({ length: Math.max(1, classes.length) }, (_, i) => (i === 0 ? 1 : 0));
  const asked = classes.indexOf(hash.get('class'));
  if (asked > 0) app.weights = app.weights.map((_, i) => (i === asked ? 1 : 0));
}

// A texture goes over into another where it stands; what grows from a cell starts anew.
function chooseModel(index) {
  const before = base();
  app.model = index;
  const model = base();
  const same = before.layout === model.layout && String(before.edges) === String(model.edges);
  app.fire = null;
  firstClass();
  if (before.layout !== model.layout) app.hex = model.layout === 'hex' ? 1 : 0;
  changed();
  if (before.living || model.living || before.codes || model.codes || !same) {
    if (app.fitted) setSize(...fitSize());
    else { plainControl(); restart(); fitView(); }
  } else {
    for (let i = 0; i < app.control.length; i += 4) app.control[i] = index;
    app.modelPainted = false;
    app.controlDirty = true;
  }
  app.choice = null;
  showModel();
  showTool();
  writeHash();
}

function chooseTool(tool) {
  const button = $('tools').querySelector(`[data-tool=${tool}]`);
  if (button.hidden) return;
  app.tool = tool;
  showTool();
}

function setPaused(paused) {
  app.paused = paused;
  if (!paused) app.stopAt = Infinity;
  showPlay();
}

function anotherSeed() {
  app.seedText = String(Math.floor(Math.random() * 100000));
  $('seed').value = app.seedText;
  restart();
}

function openPanel(open) {
  $('panel').hidden = !open;
  document.body.classList.toggle('open', open);
  $('tune').setAttribute('aria-expanded', String(open));
}

// --- touch, mouse and keys ----------------------------------------------------------------------

function listenToCanvas() {
  const centre = () => {
    const points = [...app.pointers.values()];
    const sum = points.reduce((a, p) => [a[0] + p[0], a[1] + p[1]], [0, 0]);
    const middle = sum.map((value) => value / points.length);
    const spread = points.reduce((a, p) => a + Math.hypot(p[0] - middle[0], p[1] - middle[1]), 0);
    return { middle, spread: spread / points.length };
  };
  const moves = (event) => app.tool === 'move' || app.pointers.size > 1 || app.carrying ||
    event.buttons & 6;
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    app.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    app.carrying = app.pointers.size > 1 || Boolean(event.button);
    app.grip = centre();
    app.pointer = [event.clientX, event.clientY];
    app.last = placeOf(event.clientX, event.clientY);
    canvas.classList.toggle('moving', Boolean(moves(event)));
    if (!moves(event)) stroke(app.last, app.last);
    showCursor();
  });
  canvas.addEventListener('pointermove', (event) => {
    app.pointer = [event.clientX, event.clientY];
    showCursor();
    if (!app.pointers.has(event.pointerId)) return;
    app.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (moves(event)) {
      const { middle, spread } = centre();
      const ratio = ratioOf();
      app.view.x -= (middle[0] - app.grip.middle[0]) * ratio * app.view.pixel;
      app.view.y -= (middle[1] - app.grip.middle[1]) * ratio * app.view.pixel;
      if (app.pointers.size > 1 && app.grip.spread > 0) {
        zoomAt(spread / app.grip.spread, middle[0] * ratio, middle[1] * ratio);
      }
      app.grip = { middle, spread };
      return;
    }
    const to = placeOf(event.clientX, event.clientY);
    stroke(app.last, to);
    app.last = to;
  });
  const lift = (event) => {
    app.pointers.delete(event.pointerId);
    if (app.pointers.size) app.grip = centre();
    else { app.carrying = false; canvas.classList.remove('moving'); }
    if (event.pointerType === 'touch') { app.pointer = null; showCursor(); }
  };
  canvas.addEventListener('pointerup', lift);
  canvas.addEventListener('pointercancel', lift);
  canvas.addEventListener('pointerleave', (event) => {
    if (!app.pointers.has(event.pointerId)) { app.pointer = null; showCursor(); }
  });
  canvas.addEventListener('contextmenu', (event) => event.preventDefault());
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    const by = event.deltaMode ? event.deltaY * 30 : event.deltaY;
    zoomAt(Math.exp(-by * 0.0015), event.clientX * ratioOf(), event.clientY * ratioOf());
    showCursor();
  }, { passive: false });
  canvas.addEventListener('keydown', (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    app.pointer ??= [innerWidth / 2, innerHeight / 2];
    const from = placeOf(...app.pointer);
    if (way) {
      const far = event.shiftKey ? 60 : 15;
      app.pointer = [clamp(app.pointer[0] + way[0] * far, 0, innerWidth),
        clamp(app.pointer[1] + way[1] * far, 0, innerHeight)];
      if (app.tool === 'comb' && event.altKey) stroke(from, placeOf(...app.pointer));
    } else if (event.key === 'Enter' && app.tool !== 'move') stroke(from, from);
    else return;
    event.preventDefault();
    showCursor();
  });
}

function listenToKeys() {
  addEventListener('keydown', (event) => {
    const typing = event.target.closest('input:not([type=range]):not([type=checkbox]), select');
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.closest('button, input');
    const middle = [canvas.width / 2, canvas.height / 2];
    const keys = {
      ' ': () => !onButton && (setPaused(!app.paused), true),
      '.': () => { setPaused(true); takeStep(); },
      r: restart, n: anotherSeed, p: save,
      s: () => openPanel($('panel').hidden),
      c: () => { app.cells = !app.cells; showOuts(); },
      h: () => setHex(app.hex < 0.5 ? 1 : 0),
      '[': () => setRadius(app.radius - 2), ']': () => setRadius(app.radius + 2),
      '+': () => zoomAt(1.25, ...middle), '=': () => zoomAt(1.25, ...middle),
      '-': () => zoomAt(0.8, ...middle), 0: fitView,
      Escape: () => openPanel(false),
    };
    const digit = Number(event.key);
    const act = keys[event.key] ?? keys[event.key.toLowerCase()] ??
      (digit >= 1 && digit <= 6 ? () => chooseTool(TOOLS[digit - 1]) : null);
    if (act && act() !== false) event.preventDefault();
  });
}

function setHex(hex) {
  const zoom = app.fit / app.view.pixel;
  app.hex = hex;
  changed();
  app.fit = fitPixel();
  app.view.pixel = app.fit / zoom;
  if (Math.abs(zoom - 1) < 0.01) fitView();
  showOuts();
}

function setRadius(radius) {
  app.radius = clamp(radius, 1, 60);
  showOptions();
  showCursor();
}

function listenToControls() {
  const on = (id, event, act) => $(id).addEventListener(event, act);
  const slide = (id, act) => on(id, 'input', () => {
    act(Number($(id).value));
    changed();
    showOuts();
  });
  slide('pace', (value) => { app.pace = value; });
  slide('fire', (value) => { app.fire = value / 100; });
  slide('dt', (value) => { app.dt = value / 100; });
  slide('angle', (value) => { app.angle = value * Math.PI / 180; });
  slide('dx', (value) => { app.dx = value / 100; });
  slide('hex', (value) => setHex(value / 100));
  slide('zoom', (value) => zoomAt(2 ** (value / 10) * app.view.pixel / app.fit,
    canvas.width / 2, canvas.height / 2));
  slide('radius', setRadius);
  slide('share', (value) => { app.share = value / 100; showOptions(); });
  slide('local', (value) => { app.local = value; showOptions(); });
  on('cells', 'change', () => { app.cells = $('cells').checked; });
  on('preset', 'change', () => applyField($('preset').value));
  on('forget', 'click', forget);
  on('play', 'click', () => setPaused(!app.paused));
  on('step', 'click', () => { setPaused(true); takeStep(); });
  on('again', 'click', restart);
  on('dice', 'click', anotherSeed);
  on('save', 'click', save);
  on('tune', 'click', () => openPanel($('panel').hidden));
  on('close', 'click', () => { openPanel(false); $('tune').focus(); });
  on('resize', 'click', () => {
    app.fitted = false;
    setSize(Number($('width').value) || app.width, Number($('height').value) || app.height);
  });
  const sow = () => { app.seedText = $('seed').value || '0'; restart(); };
  on('plant-seed', 'click', sow);
  on('seed', 'keydown', (event) => { if (event.key === 'Enter') sow(); });
  on('engine', 'change', () => {
    const [kind, format] = $('engine').value.split(' ');
    hash.set('engine', kind);
    if (format) hash.set('state', format); else hash.delete('state');
    writeHash();
    location.reload();
  });
  for (const button of $('tools').children) {
    button.addEventListener('click', () => chooseTool(button.dataset.tool));
  }
  addEventListener('resize', resizeCanvas);
  addEventListener('hashchange', () => location.reload());
  canvas.addEventListener('webglcontextlost', (event) => {
    event.preventDefault();
    setPaused(true);
    toast('The graphics device was lost; reload the page to go on.');
  });
}

function listEngines() {
  const choices = [];
  if (navigator.gpu) choices.push(['webgpu', 'WebGPU, float']);
  const words = { float: 'float', half: 'half float', byte: 'bytes' };
  const formats = app.engine.kind === 'WebGL2' ? app.engine.formats : ['float', 'half', 'byte'];
  for (const format of formats) choices.push([`webgl ${format}`, `WebGL2, ${words[format]}`]);
  $('engine').replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  $('engine').value = app.engine.kind === 'WebGPU' ? 'webgpu' : `webgl ${app.engine.format}`;
}

// --- time ---------------------------------------------------------------------------------------

const pulse = { frames: 0, steps: 0, since: performance.now() };

function frame(now) {
  requestAnimationFrame(frame);
  if (document.hidden) return;
  if (app.engine.idle()) {
    pulse.frames += 1;
    if (!app.paused) {
      app.debt += PACES[app.pace + 4];
      const due = Math.min(Math.floor(app.debt), app.mostSteps);
      app.debt -= Math.floor(app.debt);
      for (let i = 0; i < due && app.steps < app.stopAt; ++i) takeStep();
      pulse.steps += due;
      if (app.steps >= app.stopAt) {
        setPaused(true);
        toast('Paused, because your system asks for less motion. Press play to go on.');
      }
    }
    if (app.controlDirty) {
      app.engine.setControl(app.control);
      app.present = presentModels();
      app.controlDirty = false;
      app.touched += 1;
      changed();
    }
    const { x, y, pixel } = app.view;
    const sight = [app.steps, app.touched, x, y, pixel, app.cells, app.hex, app.angle, app.tool,
      canvas.width, canvas.height].join();
    if (sight !== app.sight) { // what nobody would see is not drawn
      app.sight = sight;
      app.engine.draw(world(), lookOf());
      drawField();
    }
  }
  const passed = now - pulse.since;
  if (passed > 1000) {
    const rate = pulse.frames * 1000 / passed;
    $('pulse').textContent = `step ${thousands(app.steps)} · ${Math.round(rate)} frames a second · ` +
      `${thousands(app.width * app.height)} cells`;
    tune(rate);
    [pulse.frames, pulse.steps, pulse.since] = [0, 0, now];
  }
}

// What cannot keep up takes fewer steps a frame, then, unless a size was asked for, fewer cells.
function tune(rate) {
  if (rate < 20) app.mostSteps = Math.max(1, app.mostSteps >> 1);
  else if (rate > 50) app.mostSteps = Math.min(32, app.mostSteps * 2);
  if (rate < 15 && app.sharpness > 0.6 && !app.paused) {
    app.sharpness *= 0.7;
    resizeCanvas();
    return;
  }
  const young = app.steps < 400 && app.steps > 3;
  if (rate < 12 && app.fitted && young && !app.paused && !base().living && app.width > 160) {
    app.budget = app.width * app.height * clamp(rate / 20, 0.2, 0.5);
    setSize(...fitSize());
  }
}

// WebGPU where it is asked for or runs on hardware; WebGL2 everywhere else.
async function makeEngine() {
  const wanted = hash.get('engine');
  if (wanted !== 'webgl') {
    try {
      const engine = await WebGPUEngine.make(canvas, wanted === 'webgpu');
      engine.device.lost.then((loss) => {
        if (engine.closed) return;
        hash.set('engine', 'webgl');
        writeHash();
        toast(`WebGPU has stopped (${loss.message}); WebGL2 goes on`);
        location.reload();
      });
      return engine;
    } catch (reason) {
      if (wanted === 'webgpu') toast(`${reason.message}; WebGL2 is used`);
    }
  }
  return new WebGLEngine(canvas, hash.get('state') ?? 'auto');
}

async function start() {
  resizeCanvas();
  app.engine = await makeEngine();
  app.mostSteps = 32;
  app.hex = base().layout === 'hex' ? 1 : 0;
  const asked = /^(\d+)x(\d+)$/.exec(hash.get('size') ?? '');
  app.fitted = !asked;
  firstClass();
  $('seed').value = app.seedText;
  setSize(...(asked ? [Number(asked[1]), Number(asked[2])] : fitSize()));
  if (base().living) app.radius = 5;
  listEngines();
  showModel();
  showTool();
  showPlay();
  listenToCanvas();
  listenToKeys();
  listenToControls();
  for (let left = clamp(number('steps', 0), 0, 1e5); left > 0; --left) takeStep();
  requestAnimationFrame(frame);
}

// For programs that drive the page: states are [channel group][row][column][4].
window.nca = {
  app,
  models: MODELS,
  ready: start().catch((reason) => {
    $('title').textContent = 'This page cannot grow here';
    $('about').textContent = `${reason.message}. It needs a browser with WebGL2 or WebGPU.`;
    throw reason;
  }),
  state: () => app.engine.read(),
  step: (count = 1) => { for (let i = 0; i < count; ++i) takeStep(); },
  tile,
  set(values) { Object.assign(app, values); changed(); },
  restart,
  choose(index, width, height) { // begin anew with a model of its own size
    Object.assign(app, { model: index, fire: null, fitted: false });
    app.hex = base().layout === 'hex' ? 1 : 0;
    firstClass();
    setSize(width, height);
    showModel();
  },
  field(name) { applyField(name); },
  classes(weights) { app.weights = weights; tellAll(); showChips(); },
  direction(row, column) { // radians by which the rule is turned in a cell
    const i = (row * app.width + column) * 4;
    return app.angle + Math.atan2(app.control[i + 3] - 128, app.control[i + 2] - 128);
  },
};
