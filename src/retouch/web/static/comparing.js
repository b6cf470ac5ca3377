// Before and after: while a key is held, with a slider, or as a difference.

const $ = (id) => document.getElementById(id);

export class Comparing {
  constructor(app) {
    this.app = app;
    this.mode = "none"; // none, slider, difference
  }

  /** The original, for as long as something is held. */
  hold(on) {
    const { doc, view } = this.app;
    if (!doc) return;
    view.compare.mode = on ? "original" : this.mode;
    view.invalidate("picture", "overlay");
  }

  /** Begin a comparison, or end it if it is on. */
  set(mode) {
    if (!this.app.doc) return;
    this.mode = this.mode === mode ? "none" : mode;
    for (const id of ["slider", "difference"]) $(id).setAttribute("aria-pressed", String(this.mode === id));
    $("split").hidden = this.mode !== "slider";
    this.hold(false);
    if (this.mode === "slider") $("split").focus();
  }

  split(share) {
    this.app.view.compare.split = share;
    this.app.view.invalidate("picture");
  }
}
