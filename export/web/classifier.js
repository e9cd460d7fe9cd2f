// Answers to images and texts in a browser, as the Keras model gives them: decoding, resizing and tokenizing as in
// training, then the ONNX model by onnxruntime-web. `ktransfer export RUN --format web` writes the folder around it.

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

/** The weights of `size` pixels in each of `target` pixels: `{from, values}` each, as Pillow has them. */
function weights(size, fit, target, { mode, interpolation, antialias }, atOnce) {
  const bar = mode === "pad" ? Math.floor(Math.max(fit - size, 0) / 2) : 0;
  const start = mode === "crop" ? Math.floor(Math.max(size - fit, 0) / 2) : 0;
  const used = mode === "crop" ? Math.min(size, fit) : size + 2 * bar;
  const found = [];
  for (let i = 0; i < target; i++) {
    if (interpolation === "nearest") {
      const place = start + Math.floor(((2 * i + 1) * used) / (2 * target)) - bar;
      found.push(place >= 0 && place < size ? { from: place, values: [1] } : { from: 0, values: [] });
      continue;
    }
    const [support, kernel] = KERNELS[interpolation];
    const step = used / target;
    const center = start + (i + 0.5) * step;
    const width = antialias ? Math.max(step, 1) : 1;
    const first = Math.max(0, Math.floor(center - support * width - 0.5));
    const last = Math.min(size + 2 * bar - 1, Math.ceil(center + support * width - 0.5));
    const values = [];
    for (let p = first; p <= last; p++) values.push(kernel(Math.abs(p + 0.5 - center) / width));
    const sum = values.reduce((one, other) => one + other, 0);
    const scaled = values.map((value) => {
      const weight = value / sum;
      return atOnce ? weight : (Math.sign(weight) * Math.floor(Math.abs(weight) * FIXED_POINT + 0.5)) / FIXED_POINT;
    });
    // Bars are black: their pixels count for nothing.
    const from = Math.max(first, bar);
    found.push({ from: from - bar, values: scaled.slice(from - first, Math.max(size + bar - first, 0)) });
  }
  return found;
}

const whole = (value) => Math.min(Math.max(Math.floor(value + 0.5), 0), 255);

/** One pass over an image of three channels: along rows, or along columns, from `first` to `last` of the others. */
function pass(image, { width, height, along, round }) {
  const horizontal = along.axis === "x";
  const [outWidth, outHeight] = horizontal ? [along.weights.length, height] : [width, along.weights.length];
  const out = new Float64Array(outWidth * outHeight * 3);
  const step = horizontal ? 3 : width * 3;
  const [firstRow, endRow] = along.rows ?? [0, outHeight];
  for (let y = firstRow; y < endRow; y++) {
    for (let x = 0; x < outWidth; x++) {
      const { from, values } = along.weights[horizontal ? x : y];
      const start = (horizontal ? y * width + from : from * width + x) * 3;
      let red = 0, green = 0, blue = 0;
      for (let k = 0, place = start; k < values.length; k++, place += step) {
        red += image[place] * values[k];
        green += image[place + 1] * values[k];
        blue += image[place + 2] * values[k];
      }
      const place = (y * outWidth + x) * 3;
      out[place] = round(red);
      out[place + 1] = round(green);
      out[place + 2] = round(blue);
    }
  }
  return { image: out, width: outWidth, height: outHeight };
}

/**
 * Brings pixels to the size of a model, as Pillow does, to the same grey level.
 * `pixels`: RGB in 0-255, `height * width * 3`. `resize`: as `facts.json` has it. Returns a Float32Array.
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
  const between = atOnce ? (value) => value : whole;
  const last = atOnce ? (value) => Math.floor(value + NEARLY) : whole;
  const [fullWidth, fullHeight] = [wholeSize(width, fitWidth), wholeSize(height, fitHeight)];
  // The order of Pillow 13: rows first where that takes away twice as many of them.
  const rowsFirst = fullHeight > resize.height && 2 * (fullWidth - resize.width) < fullHeight - resize.height;
  const down = { axis: "y", weights: rows };
  const filled = rows.filter(({ values }) => values.length);
  const needed = [filled[0]?.from ?? 0, Math.max(0, ...filled.map(({ from, values }) => from + values.length))];
  const across = { axis: "x", weights: columns, rows: rowsFirst ? undefined : needed };
  let found = { image: pixels, width, height };
  for (const [along, round] of [[rowsFirst ? down : across, between], [rowsFirst ? across : down, last]]) {
    found = pass(found.image, { ...found, along, round });
  }
  return Float32Array.from(found.image);
}

/** Decodes an image file, a video frame or a bitmap: upright, transparent parts white, colors as stored. */
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
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < pixels.length; from += 4, to += 3) {
    pixels[to] = data[from];
    pixels[to + 1] = data[from + 1];
    pixels[to + 2] = data[from + 2];
  }
  return { pixels, width, height };
}

async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) {
    throw new Error(`Expected ${address.pathname}, got status ${response.status}. Copy the whole folder to the server.`);
  }
  return response;
}

/** Loads the model of a folder. `folder`: its address, by default the one this module is in. */
export async function load(folder = new URL(".", import.meta.url)) {
  const at = (name) => new URL(name, folder);
  const facts = await (await fetched(at("facts.json"))).json();
  const ort = await import(at("runtime/ort.wasm.min.mjs").href);
  ort.env.wasm.wasmPaths = at("runtime/").href;
  ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
  const model = new Uint8Array(await (await fetched(at("model.onnx"))).arrayBuffer());
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  let tokenizer = null;
  if (facts.tokenizer) {
    const { Tokenizer } = await import(at("runtime/tokenizers.min.mjs").href);
    tokenizer = new Tokenizer(await (await fetched(at("tokenizer.json"))).json(), {});
  }
  return new Classifier(ort, session, facts, tokenizer);
}

export class Classifier {
  constructor(ort, session, facts, tokenizer) {
    Object.assign(this, { ort, session, facts, tokenizer });
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
    const { resize } = this.facts;
    const input = resized(pixels, width, height, resize);
    return this.run({ image: new this.ort.Tensor("float32", input, [1, resize.height, resize.width, 3]) });
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
      given[name] = new this.ort.Tensor("int32", values, [1, length]);
    }
    return given;
  }

  async run(given) {
    const { probabilities } = await this.session.run(given);
    return Array.from(probabilities.data);
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
