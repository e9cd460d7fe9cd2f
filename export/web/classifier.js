// Answers to images and texts in a browser, as the Keras model gives them: decoding, resizing and tokenizing as in
// training, then the model by LiteRT or ONNX Runtime in WebAssembly. `ktransfer export RUN --format web` writes the
// folder around it.

const FIXED_POINT = 2 ** 22; // what Pillow multiplies weights by before it rounds them (libImaging/Resample.c)
const NEARLY = 1e-9; // by which a sum of weighted pixels may miss a whole number
const MOST_PIXELS = 2 ** 27; // of a decoded image: half a gigabyte

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
// Half the width of each kernel, and the kernel; bicubic with a = -0.5, Pillow's choice (Keys 1981).
const KERNELS = {
  bilinear: [1, (x) => Math.max(1 - x, 0)],
  bicubic: [2, (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0)],
  lanczos3: [3, (x) => (x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

/**
 * The weights of `size` pixels in each of `target` pixels, as Pillow has them: of target i those from `from[i]` on, in
 * `values` between `at[i]` and `at[i + 1]`.
 */
function weights(size, fit, target, { mode, interpolation, antialias }, atOnce) {
  const bar = mode === "pad" ? Math.floor(Math.max(fit - size, 0) / 2) : 0;
  const start = mode === "crop" ? Math.floor(Math.max(size - fit, 0) / 2) : 0;
  const used = mode === "crop" ? Math.min(size, fit) : size + 2 * bar;
  const from = new Int32Array(target), at = new Int32Array(target + 1), found = [];
  for (let i = 0; i < target; i++) {
    at[i] = found.length;
    if (interpolation === "nearest") {
      const place = start + Math.floor(((2 * i + 1) * used) / (2 * target)) - bar;
      if (place >= 0 && place < size) {
        from[i] = place;
        found.push(1);
      }
      continue;
    }
    const [support, kernel] = KERNELS[interpolation];
    const step = used / target;
    const center = start + (i + 0.5) * step;
    const width = antialias ? Math.max(step, 1) : 1;
    const first = Math.max(0, Math.floor(center - support * width - 0.5));
    const last = Math.min(size + 2 * bar - 1, Math.ceil(center + support * width - 0.5));
    const values = [];
    let sum = 0;
    for (let p = first; p <= last; p++) sum += values[values.push(kernel(Math.abs(p + 0.5 - center) / width)) - 1];
    // Bars are black: their pixels count for nothing.
    from[i] = Math.max(first, bar) - bar;
    for (let k = Math.max(first, bar) - first; k < Math.min(values.length, size + bar - first); k++) {
      const weight = values[k] / sum;
      found.push(
        atOnce ? weight : (Math.sign(weight) * Math.floor(Math.abs(weight) * FIXED_POINT + 0.5)) / FIXED_POINT
      );
    }
  }
  at[target] = found.length;
  return { from, at, values: Float64Array.from(found) };
}

// How a sum of weighted pixels becomes a pixel: not yet, to the nearest level, or to the one below.
const [NOT, NEAREST, DOWN] = [0, 1, 2];
const rounded = (value, way) =>
  way === NEAREST ? Math.min(Math.max(Math.floor(value + 0.5), 0), 255) : way === DOWN ? Math.floor(value + NEARLY) : value;

/** One pass along the rows, from `firstRow` to `endRow` of them, over pixels of `channels` values, of which 3 count. */
function acrossRows(image, { width, height, channels }, { from, at, values }, [firstRow, endRow], way) {
  const target = from.length;
  const out = way === NEAREST ? new Uint8Array(target * height * 3) : new Float64Array(target * height * 3);
  for (let y = firstRow; y < endRow; y++) {
    for (let x = 0, place = y * target * 3; x < target; x++, place += 3) {
      let red = 0, green = 0, blue = 0;
      for (let k = at[x], p = (y * width + from[x]) * channels; k < at[x + 1]; k++, p += channels) {
        const weight = values[k];
        red += image[p] * weight;
        green += image[p + 1] * weight;
        blue += image[p + 2] * weight;
      }
      out[place] = rounded(red, way);
      out[place + 1] = rounded(green, way);
      out[place + 2] = rounded(blue, way);
    }
  }
  return { image: out, width: target, height, channels: 3 };
}

/** One pass along the columns, a row of sums at a time, which is how the pixels lie. */
function alongColumns(image, { width, channels }, { from, at, values }, way) {
  const target = from.length, length = width * channels;
  const out = way === NEAREST ? new Uint8Array(width * target * 3) : new Float32Array(width * target * 3);
  const sums = new Float64Array(length);
  for (let y = 0, place = 0; y < target; y++) {
    sums.fill(0);
    for (let k = at[y], p = from[y] * length; k < at[y + 1]; k++, p += length) {
      const weight = values[k];
      for (let i = 0; i < length; i++) sums[i] += image[p + i] * weight;
    }
    for (let i = 0; i < length; i += channels) {
      out[place++] = rounded(sums[i], way);
      out[place++] = rounded(sums[i + 1], way);
      out[place++] = rounded(sums[i + 2], way);
    }
  }
  return { image: out, width, height: target, channels: 3 };
}

/**
 * Brings pixels to the size of a model, as Pillow does, to the same grey level.
 * `pixels`: RGB or RGBA in 0-255, row by row; the fourth value is not used. `resize`: as `facts.json` has it. Returns a
 * Float32Array, RGB.
 */
export function resized(pixels, width, height, resize) {
  const fitWidth = Math.max(Math.floor((height * resize.width) / resize.height), 1);
  const fitHeight = Math.max(Math.floor((width * resize.height) / resize.width), 1);
  const wholeSize = (size, fit) => (resize.mode === "pad" ? Math.max(size, fit) : size);
  const usedSize = (size, fit) => (resize.mode === "crop" ? Math.min(size, fit) : wholeSize(size, fit));
  // Without antialias Pillow weighs four pixels at once, and rounds down, unless it only enlarges.
  const smaller = usedSize(height, fitHeight) > resize.height || usedSize(width, fitWidth) > resize.width;
  const atOnce = !resize.antialias && resize.interpolation === "bilinear" && smaller;
  const rows = weights(height, fitHeight, resize.height, resize, atOnce);
  const columns = weights(width, fitWidth, resize.width, resize, atOnce);
  const [between, last] = atOnce ? [NOT, DOWN] : [NEAREST, NEAREST];
  const [fullWidth, fullHeight] = [wholeSize(width, fitWidth), wholeSize(height, fitHeight)];
  const given = { width, height, channels: pixels.length / (width * height) };
  let found;
  // The order of Pillow 13: rows first where that takes away twice as many of them.
  if (fullHeight > resize.height && 2 * (fullWidth - resize.width) < fullHeight - resize.height) {
    found = alongColumns(pixels, given, rows, between);
    found = acrossRows(found.image, found, columns, [0, resize.height], last);
  } else {
    let [first, end] = [height, 0]; // of the rows that are used
    for (let i = 0; i < resize.height; i++) {
      const count = rows.at[i + 1] - rows.at[i];
      if (count) [first, end] = [Math.min(first, rows.from[i]), Math.max(end, rows.from[i] + count)];
    }
    found = acrossRows(pixels, given, columns, [first, end], between);
    found = alongColumns(found.image, found, rows, last);
  }
  return Float32Array.from(found.image);
}

/** Decodes an image file, a video frame or a bitmap to RGBA: upright, transparent parts white, colors as stored. */
export async function pixelsOf(source) {
  let bitmap;
  try {
    const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
    bitmap = await createImageBitmap(source, options);
  } catch {
    const name = source.name || "the image";
    throw new Error(`Expected an image, got ${name}, which this browser cannot decode. Convert it to JPEG or PNG.`);
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    bitmap.close();
    throw new Error(`Expected at most ${MOST_PIXELS} pixels, got ${width} x ${height}. Make the image smaller.`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { pixels: context.getImageData(0, 0, width, height).data, width, height }; // RGBA
}

async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) {
    throw new Error(`Expected ${address.pathname}, got status ${response.status}. Copy the whole folder to the server.`);
  }
  return response;
}

/** ONNX Runtime: a function from inputs by name, `{values, shape}` each, to the probabilities. */
async function onnxRuntime(at) {
  const ort = await import(at("runtime/ort.wasm.min.mjs").href);
  ort.env.wasm.wasmPaths = at("runtime/").href;
  ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
  const model = new Uint8Array(await (await fetched(at("model.onnx"))).arrayBuffer());
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const kinds = { Float32Array: "float32", Uint8Array: "uint8", Int32Array: "int32" };
  return async (given) => {
    const tensors = Object.entries(given).map(([name, { values, shape }]) => {
      return [name, new ort.Tensor(kinds[values.constructor.name], values, shape)];
    });
    return Array.from((await session.run(Object.fromEntries(tensors))).probabilities.data);
  };
}

/** LiteRT, which has faster convolutions; the same kind of function. */
async function liteRt(at) {
  const { getGlobalLiteRtPromise, loadLiteRt, loadAndCompile, Tensor } = await import(at("runtime/litert.js").href);
  await (getGlobalLiteRtPromise() ?? loadLiteRt(at("runtime/").href)); // once a page, however many models it has
  const model = new Uint8Array(await (await fetched(at("model.tflite"))).arrayBuffer());
  const compiled = await loadAndCompile(model, { accelerator: "wasm" });
  return async (given) => {
    const tensors = Object.entries(given).map(([name, { values, shape }]) => [name, new Tensor(values, shape)]);
    const made = tensors.map(([, tensor]) => tensor);
    try {
      const { probabilities } = await compiled.run(Object.fromEntries(tensors));
      made.push(probabilities);
      return Array.from(await probabilities.data());
    } finally {
      made.forEach((tensor) => tensor.delete());
    }
  };
}

/** Loads the model of a folder. `folder`: its address, by default the one this module is in. */
export async function load(folder = new URL(".", import.meta.url)) {
  const at = (name) => new URL(name, folder);
  const facts = await (await fetched(at("facts.json"))).json();
  const run = await (facts.model.endsWith(".tflite") ? liteRt : onnxRuntime)(at);
  let tokenizer = null;
  if (facts.tokenizer) {
    const { Tokenizer } = await import(at("runtime/tokenizers.min.mjs").href);
    tokenizer = new Tokenizer(await (await fetched(at("tokenizer.json"))).json(), {});
  }
  return new Classifier(run, facts, tokenizer);
}

export class Classifier {
  /** `run`: from inputs by name, `{values, shape}` each, to the probabilities. */
  constructor(run, facts, tokenizer) {
    Object.assign(this, { run, facts, tokenizer });
  }

  /** Whether it takes texts; else images. */
  get takesTexts() {
    return this.tokenizer !== null;
  }

  /** What to show for a file, a blob, a bitmap or a video element. */
  async image(source) {
    const { pixels, width, height } = await pixelsOf(source);
    return this.answer(await this.probabilitiesOfPixels(pixels, width, height));
  }

  /** What to show for a text. */
  async text(text) {
    return this.answer(await this.run(this.tensors(this.ids(text))));
  }

  async probabilitiesOfPixels(pixels, width, height) {
    const { resize, inputs } = this.facts;
    const levels = resized(pixels, width, height, resize);
    const values = inputs[0].dtype === "uint8" ? Uint8Array.from(levels) : levels;
    return this.run({ image: { values, shape: [1, resize.height, resize.width, 3] } });
  }

  /** The ids of a text as in training: special tokens around it, cut at the model's length. */
  ids(text) {
    const { characters, sequence_length, start_token_id, end_token_id } = this.facts.tokenizer;
    // Halves of surrogate pairs, which UTF-8 does not have, were question marks in training.
    const paired = text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "?");
    const cut = paired.length > characters ? Array.from(paired).slice(0, characters).join("") : paired;
    const found = cut ? this.tokenizer.encode(cut, { add_special_tokens: false }) : { ids: [] };
    return [start_token_id, ...found.ids.slice(0, sequence_length - 2), end_token_id];
  }

  tensors(ids) {
    const { pad_token_id } = this.facts.tokenizer;
    const given = {};
    for (const { name, shape } of this.facts.inputs) {
      const length = shape[1] ?? ids.length;
      const fill = name === "token_ids" ? pad_token_id : 0;
      const values = new Int32Array(length).fill(fill);
      if (name === "token_ids") values.set(ids);
      if (name === "padding_mask") values.fill(1, 0, ids.length);
      given[name] = { values, shape: [1, length] };
    }
    return given;
  }

  /** `{predictions: [{label, probability, chosen}, ...]}`, most probable first; of a regression `{label, value}`. */
  answer(values) {
    const { labels, task, thresholds, interval } = this.facts;
    if (task === "regression") {
      const [value] = values;
      const found = { label: labels[0], value };
      if (!interval) return found;
      const [low, high] =
        interval.transform === "log"
          ? [value / Math.exp(interval.width), value * Math.exp(interval.width)]
          : [value - interval.width, value + interval.width];
      return { ...found, interval: [low, high], coverage: interval.coverage };
    }
    const each = values.map((probability, i) => ({ label: labels[i], probability }));
    if (task === "multi_label") {
      const limits = thresholds ?? labels.map(() => 0.5);
      each.forEach((one, i) => (one.chosen = one.probability >= limits[i]));
    }
    each.sort((one, other) => other.probability - one.probability);
    if (task === "single_label") each.forEach((one, i) => (one.chosen = i === 0));
    return { predictions: each };
  }
}
