// Talks to the server. Everything precious is here in the page: when the server has forgotten a
// picture, or was started anew, it is brought again with all its fills, and work goes on.

const API = "/api/v1";
const BROKEN = 6; // connections to a server that answers, after which it is no use

export class Refused extends Error {
  constructor(status, detail) {
    super(typeof detail === "string" ? detail : JSON.stringify(detail));
    this.status = status;
  }
}

export class Lost extends Error {}
export class Stopped extends Error {}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path.startsWith("/") ? path : `${API}/${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw new Stopped();
    throw new Lost();
  }
  if (response.ok) return response;
  let detail = response.statusText;
  try {
    detail = (await response.json()).detail;
  } catch {
    // the answer was no JSON: its status says enough
  }
  const refused = new Refused(response.status, detail);
  refused.wait = Number(response.headers.get("Retry-After")) || 0;
  throw refused;
}

const json = async (path, options) => (await ask(path, options)).json();

async function body(response) {
  try {
    return await response.blob();
  } catch {
    throw new Lost(); // the connection broke while the answer came
  }
}

function form(fields) {
  const data = new FormData();
  for (const [key, value] of Object.entries(fields)) {
    if (value instanceof Blob) data.append(key, value, value.name || key);
    else if (Array.isArray(value)) data.append(key, JSON.stringify(value));
    else if (value !== null && value !== undefined) data.append(key, String(value));
  }
  return data;
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

export class Server extends EventTarget {
  constructor() {
    super();
    this.reachable = true;
  }

  models() {
    return json("models");
  }

  health() {
    return json("health");
  }

  offered() {
    return json("offered");
  }

  async offeredFile(item) {
    return new File([await body(await ask(`offered/${item.index}`))], item.name);
  }

  /** Do something; if the server is gone, wait for it and do it again from the start. */
  async persist(work, signal) {
    for (let tries = 0, broken = 0; ; ) {
      try {
        const result = await work();
        this.#tell(true);
        return result;
      } catch (error) {
        if (signal?.aborted) throw new Stopped();
        if (error instanceof Lost) {
          this.#tell(false);
          const wasThere = await this.#back(signal);
          broken = wasThere ? broken + 1 : 0;
          if (broken === BROKEN) throw new Error("the connection breaks each time");
        } else if (error.status === 429) {
          await pause(Math.min(error.wait || 1, 10));
        } else if (error.status === 404 && error.forgotten && tries++ < 3) {
          continue;
        } else throw error;
      }
    }
  }

  #tell(reachable) {
    if (reachable === this.reachable) return;
    this.reachable = reachable;
    this.dispatchEvent(new Event(reachable ? "back" : "lost"));
  }

  /** Wait until the server answers; returns whether it does so at once. */
  async #back(signal) {
    for (let first = true; ; first = false) {
      await pause(0.5);
      if (signal?.aborted) throw new Stopped();
      try {
        await this.health();
        this.#tell(true);
        return first;
      } catch (error) {
        if (error instanceof Refused) throw error;
      }
    }
  }

  /** Make sure that the server holds a picture and these fills of it; returns the fills' keys. */
  async bring(doc, patches) {
    if (!doc.key) {
      doc.opening ??= json("pictures", { method: "POST", body: form({ image: doc.file }) });
      try {
        doc.opened(await doc.opening);
      } finally {
        doc.opening = null;
      }
    }
    const keys = [];
    for (const patch of patches) {
      if (patch.server !== doc.key) {
        const fields = { fill: patch.blob, top: patch.top, left: patch.left };
        const path = `pictures/${doc.key}/patches`;
        const known = await this.#known(doc, json(path, { method: "POST", body: form(fields) }));
        patch.key = known.patch;
        patch.server = doc.key;
      }
      keys.push(patch.key);
    }
    return keys;
  }

  /** A 404 means that the server has forgotten the picture: forget its key as well. */
  async #known(doc, promise) {
    try {
      return await promise;
    } catch (error) {
      if (error.status === 404) {
        doc.key = null;
        error.forgotten = true;
      }
      throw error;
    }
  }

  async view(doc) {
    await this.bring(doc, []);
    return body(await this.#known(doc, ask(`pictures/${doc.key}/view`)));
  }

  /** Fill; `mask` = {blob, top, left}. Returns {top, left, blob} of the fill. */
  fill(doc, patches, mask, options, { progress, signal }) {
    return this.persist(async () => {
      const keys = await this.bring(doc, patches);
      const fields = { mask: mask.blob, top: mask.top, left: mask.left, patches: keys, ...options };
      const request = { method: "POST", body: form(fields), signal };
      const job = await this.#known(doc, json(`pictures/${doc.key}/fills`, request));
      const done = await this.follow(job, progress, signal);
      return this.#patch(doc, done.value);
    }, signal);
  }

  async #patch(doc, value) {
    const blob = await body(await this.#known(doc, ask(value.url)));
    return { top: value.top, left: value.left, blob, key: value.patch, server: doc.key };
  }

  /** Begin semantic editing: {session, label_set, top, left, ..., map (Blob), patch, coarse}. */
  begin(doc, patches, mask, options, { progress, signal }) {
    return this.persist(async () => {
      const keys = await this.bring(doc, patches);
      const where = { picture: doc.key, mask: mask.blob, top: mask.top, left: mask.left };
      const request = { method: "POST", body: form({ ...where, patches: keys, ...options }), signal };
      const job = await this.#known(doc, json("sessions", request));
      const { value } = await this.follow(job, progress, signal);
      const labels = await body(await this.#known(doc, ask(value.labels)));
      const [patch, coarse] = [await this.#patch(doc, value.patch), await this.#patch(doc, value.coarse)];
      return { ...value, server: doc.key, map: labels, patch, coarse };
    }, signal);
  }

  async render(doc, session, labels, { signal } = {}) {
    const request = { method: "POST", body: form({ labels }), signal };
    const job = await this.#known(doc, json(`sessions/${session}/render`, request));
    const done = await this.follow(job, () => {}, signal);
    return this.#patch(doc, done.value);
  }

  select(doc, patches, points, signal) {
    return this.persist(async () => {
      const keys = await this.bring(doc, patches);
      const given = JSON.stringify({ picture: doc.key, patches: keys, points });
      const headers = { "Content-Type": "application/json" };
      const request = { method: "POST", body: given, headers, signal };
      const response = await this.#known(doc, ask("select", request));
      const [left, top] = ["X-Left", "X-Top"].map((name) => Number(response.headers.get(name)));
      const byColor = response.headers.get("X-Selector") === "grabcut";
      return { left, top, blob: await body(response), byColor };
    }, signal);
  }

  /** The file with its metadata, in its own format. */
  save(doc, patches, options) {
    return this.persist(async () => {
      const keys = await this.bring(doc, patches);
      return body(await this.#known(doc, this.#post(`pictures/${doc.key}/save`, keys, options)));
    });
  }

  /** Write the result of a picture that was named on the command line into its folder. */
  saveOffered(doc, patches, options) {
    return this.persist(async () => {
      const keys = await this.bring(doc, patches);
      const path = `offered/${doc.offered.index}/save/${doc.key}`;
      return (await this.#known(doc, this.#post(path, keys, options))).json();
    });
  }

  #post(path, keys, options) {
    const headers = { "Content-Type": "application/json" };
    const given = JSON.stringify({ patches: keys, ...options });
    return ask(path, { method: "POST", headers, body: given });
  }

  /** Follow a job to its end. */
  follow(job, progress, signal) {
    return new Promise((resolve, reject) => {
      const events = new EventSource(job.events);
      const end = (settle, value) => {
        events.close();
        signal?.removeEventListener("abort", cancel);
        settle(value);
      };
      const cancel = () => {
        fetch(`${API}/jobs/${job.job}`, { method: "DELETE" }).catch(() => {});
        end(reject, new Stopped());
      };
      for (const state of ["queued", "running", "done", "failed", "cancelled"]) {
        events.addEventListener(state, (event) => {
          const now = JSON.parse(event.data);
          if (state === "done") end(resolve, now);
          else if (state === "failed") end(reject, new Refused(422, now.error));
          else if (state === "cancelled") end(reject, signal?.aborted ? new Stopped() : new Lost());
          else progress(now);
        });
      }
      events.onerror = () => end(reject, new Lost());
      if (signal?.aborted) cancel();
      else signal?.addEventListener("abort", cancel);
    });
  }
}
