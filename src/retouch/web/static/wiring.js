// Joins the page's elements, its files and the server's news to what they do.

import { addIcons } from "./icons.js";
import { LARGEST_BRUSH } from "./input.js";
import { languages, setLanguage, t } from "./strings.js";

const $ = (id) => document.getElementById(id);
const PICTURES = /\.(jpe?g|png|tiff?|webp|bmp|avif|hei[cf])$/i;

export function wire(app) {
  addIcons();
  bindButtons(app);
  bindSettings(app);
  bindAppearance(app);
  bindFiles(app);
  bindServer(app);
}

function bindButtons(app) {
  const { view, labels, filling, masking, saving, comparing, strip } = app;
  const choose = (id) => () => $(id).click();
  const actions = {
    open: choose("file"), openLarge: choose("file"), openFolder: choose("folder"),
    loadMask: choose("maskFile"), loadLabels: choose("labelFile"),
    save: () => saving.save(), copy: () => saving.copy(), saveMask: () => saving.mask(),
    saveMasked: () => saving.masked(), saveLabels: () => saving.labels(),
    undo: () => app.undo(), redo: () => app.redo(),
    zoomIn: () => view.setZoom(view.zoom * 1.5), zoomOut: () => view.setZoom(view.zoom / 1.5),
    fit: () => view.fit(), actual: () => view.setZoom(1),
    slider: () => comparing.set("slider"), difference: () => comparing.set("difference"),
    theme: () => app.toggleTheme(), help: () => app.showKeys(),
    fill: () => filling.fill(), variants: () => filling.variants(), cancel: () => app.abort?.abort(),
    grow: () => masking.grow(1), shrink: () => masking.grow(-1),
    invert: () => masking.invert(), clear: () => masking.clear(), takeAway: () => app.setTakesAway(),
    editLabels: () => labels.toggle(), resetLabels: () => labels.reset(), coarse: () => labels.showCoarse(),
    previous: () => strip.step(-1), next: () => strip.step(1),
  };
  for (const [id, act] of Object.entries(actions)) $(id).addEventListener("click", act);
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => app.setTool(button.dataset.tool));
  }
  const hold = $("hold");
  hold.addEventListener("pointerdown", () => comparing.hold(true));
  for (const kind of ["pointerup", "pointerleave", "pointercancel"]) {
    hold.addEventListener(kind, () => comparing.hold(false));
  }
  for (const [kind, on] of [["keydown", true], ["keyup", false]]) {
    hold.addEventListener(kind, ({ key }) => (key === " " || key === "Enter") && comparing.hold(on));
  }
}

function bindSettings(app) {
  const on = (id, kind, act) => $(id).addEventListener(kind, () => act($(id)));
  on("size", "input", ({ value }) => app.setBrush(LARGEST_BRUSH ** (value / 1000)));
  on("split", "input", ({ value }) => app.comparing.split(value / 1000));
  on("opacity", "input", ({ value }) => app.labels.setOpacity(value / 100));
  on("dilate", "change", () => app.filling.keepWithin("dilate"));
  on("feather", "change", () => app.filling.keepWithin("feather"));
  on("network", "change", () => app.refresh());
  app.stage.addEventListener("view", () => ($("zoom").textContent = `${Math.round(100 * app.view.zoom)} %`));
}

function bindAppearance(app) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.theme = localStorage.getItem("retouch-theme") ?? dark;
  const select = $("language");
  for (const { code, language } of languages) select.append(new Option(language, code));
  const chosen = localStorage.getItem("retouch-language") ?? navigator.language.slice(0, 2);
  select.value = languages.some(({ code }) => code === chosen) ? chosen : "en";
  setLanguage(select.value);
  select.addEventListener("change", () => {
    localStorage.setItem("retouch-language", select.value);
    app.speak(select.value);
  });
}

function bindFiles(app) {
  const taken = (input, act) => {
    input.addEventListener("change", () => {
      if (input.files.length) act([...input.files]);
      input.value = "";
    });
  };
  taken($("file"), (files) => app.strip.add(files));
  taken($("folder"), (files) => addPictures(app, files));
  taken($("maskFile"), ([file]) => app.masking.load(file));
  taken($("labelFile"), ([file]) => app.labels.load(file));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    app.stage.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => app.stage.classList.remove("dropping"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    app.stage.classList.remove("dropping");
    const { items, files } = event.dataTransfer;
    const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const single = [...files];
    if (!entries.some((entry) => entry.isDirectory)) {
      if (single.length) app.strip.add(single);
      return;
    }
    addPictures(app, (await Promise.all(entries.map(filesOf))).flat());
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    app.strip.add([file]);
  });
  window.addEventListener("beforeunload", (event) => {
    if (app.strip.hasUnsaved) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) app.strip.autosave();
  });
}

/** A folder's pictures, by name; other files in it are no mistake. */
function addPictures(app, files) {
  const pictures = files.filter(({ name }) => PICTURES.test(name));
  if (!pictures.length) app.say("noPictures");
  else app.strip.add(pictures.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })));
}

/** All files of a dropped file or folder. */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const each of some) if (each.isFile) found.push(...(await filesOf(each)));
  }
}

function bindServer(app) {
  const { server } = app;
  const lost = $("lost");
  server.addEventListener("lost", () => {
    lost.textContent = t("lost");
    lost.hidden = false;
  });
  server.addEventListener("back", () => {
    lost.hidden = true;
    app.say("back");
  });
  const failed = (error) => app.fail(error);
  server.persist(() => server.offered()).then((offered) => app.strip.offer(offered), failed);
  server.persist(() => server.models()).then((models) => offerModels(app, models), failed);
}

function offerModels(app, models) {
  app.models = models;
  for (const model of models) $("network").append(new Option(model.name, model.name, model.default, model.default));
  if (!models.length) app.say("noNetwork");
  app.refresh();
}
