// The worker that has the model; transport.js begins and ends it.
import init, { Model } from "./sana_web.js";

const png = (file) => new Blob([file], { type: "image/png" });
const events = {
  step(step, steps) { postMessage({ type: "progress", step, steps }); },
  preview(file) { postMessage({ type: "preview", file: png(file) }); },
  image(file, seed, width, height) { postMessage({ type: "image", file: png(file), seed, size: `${width}x${height}` }); },
};
let model;

async function open(module) {
  await init({ module_or_path: module });
  model = new Model();
  postMessage({ type: "model", model: JSON.parse(model.describe()) });
}

function generate({ asked, image, mask }) {
  model.generate(asked, image, mask, events);
  postMessage({ type: "done" });
}

onmessage = async ({ data }) => {
  try {
    await (data.module ? open(data.module) : generate(data));
  } catch (error) {
    // After a trap the module's memory may be in any state.
    const type = error instanceof WebAssembly.RuntimeError ? "dead" : "error";
    postMessage({ type, message: error.message });
  }
};
