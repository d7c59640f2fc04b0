"use strict";

// Where the page makes images without a server: a worker that has the model. It is ended to cancel what it
// does, and another one begun, with the module that is compiled once.
globalThis.sanaTransport = (() => {
  let module = null, current = null, device = "cpu";

  async function compiled() {
    const response = await fetch("sana_web_bg.wasm");
    if (!response.ok) throw new Error(`${response.url}: ${response.status} ${response.statusText}`);
    return WebAssembly.compile(await response.arrayBuffer());
  }

  // A worker and what it says, in order.
  class Messages {
    constructor() {
      this.there = [];
      this.wake = () => {};
      this.worker = new Worker("worker.js", { type: "module" });
      this.worker.onmessage = ({ data }) => this.add(data);
      this.worker.onerror = (event) => this.add({ type: "dead", message: event.message ?? "worker.js cannot be loaded" });
    }

    add(message) {
      this.there.push(message);
      this.wake();
    }

    async next() {
      while (!this.there.length) await new Promise((resolve) => { this.wake = resolve; });
      return this.there.shift();
    }
  }

  // A choice of device, where the module was built with WebGPU and the browser has an adapter for it.
  async function offer(module) {
    if (!WebAssembly.Module.exports(module).some(({ name }) => name === "model_onWebGpu")) return;
    if (!await navigator.gpu?.requestAdapter()) return;
    const row = document.createElement("div"), choice = document.createElement("select");
    row.append(Object.assign(document.createElement("label"), { htmlFor: "device", textContent: "Device" }), choice);
    choice.id = "device";
    for (const [value, text] of [["cpu", "CPU"], ["webgpu", "WebGPU"]]) choice.add(new Option(text, value));
    choice.addEventListener("change", () => { device = choice.value; });
    document.querySelector("#form details").before(row);
  }

  function begin() {
    if (!module) {
      module = compiled();
      module.then(offer, () => { module = null; });
    }
    const messages = new Messages();
    const model = module.then(async (module) => {
      messages.worker.postMessage({ module, device });
      const message = await messages.next();
      if (message.type !== "model") throw new Error(message.message);
      return message.model;
    });
    current = { messages, model, device };
    model.catch(() => end(messages));
  }

  function end(messages) {
    messages.worker.terminate();
    if (current?.messages === messages) current = null;
  }

  const bytes = async (file) => file ? new Uint8Array(await file.arrayBuffer()) : undefined;

  return {
    async model() {
      if (current && current.device !== device) end(current.messages);
      if (!current) begin();
      return current.model;
    },

    async *images(asked, start, signal) {
      await this.model();
      signal.throwIfAborted();
      const { messages } = current;
      const abort = () => messages.add({ type: "abort" });
      signal.addEventListener("abort", abort);
      let ended = false;
      try {
        const seed = asked.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
        const strength = start && !start.mask ? start.strength : undefined;
        const [image, mask] = await Promise.all([bytes(start?.image), bytes(start?.mask)]);
        messages.worker.postMessage({ asked: JSON.stringify({ ...asked, seed, strength }), image, mask });
        for (;;) {
          const message = await messages.next();
          signal.throwIfAborted();
          if (message.type === "done" || message.type === "error") ended = true;
          if (message.type === "done") return;
          if (message.type === "error" || message.type === "dead") throw new Error(message.message);
          yield message;
        }
      } finally {
        signal.removeEventListener("abort", abort);
        if (!ended) {
          end(messages);
          begin();
        }
      }
    },
  };
})();
