// The worker that has the model; transport.js begins and ends it.
import init, { Model } from "./sana_web.js";

const png = (file) => new Blob([file], { type: "image/png" });
const events = {
  step(step, steps) { postMessage({ type: "progress", step, steps }); },
  preview(file) { postMessage({ type: "preview", file: png(file) }); },
  image(file, seed, width, height) { postMessage({ type: "image", file: png(file), seed, size: `${width}x${height}` }); },
};
let model;

async function open({ module, device }) {
  await init({ module_or_path: module });
  model = device === "webgpu" ? await Model.onWebGpu() : Model.onCpu();
  postMessage({ type: "model", model: JSON.parse(model.describe()) });
}

async function generate({ asked, image, mask }) {
  await model.generate(asked, image, mask, events);
  postMessage({ type: "done" });
}

onmessage = async ({ data }) => {
  try {
    await (data.module ? open(data) : generate(data));
  } catch (error) {
    // What is not an Error of the model's is a bug, after which its memory may be in any state. Traps in a
    // call that was under way end no promise, but reach the page as errors of the worker.
    const type = error instanceof WebAssembly.RuntimeError ? "dead" : "error";
    postMessage({ type, message: error.message });
  }
};
