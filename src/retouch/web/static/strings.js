// All that the page says, in each language. A new language is one more block.

const STRINGS = {
  en: {
    language: "English",
    open: "Open", openFolder: "Open several", save: "Save", saveMask: "Save mask", saveMasked: "Save masked picture",
    loadMask: "Load mask", copy: "Copy picture", undo: "Undo", redo: "Redo",
    zoomIn: "Zoom in", zoomOut: "Zoom out", fit: "Fit", actual: "100 %", help: "Shortcuts", theme: "Dark or light",
    hold: "Hold to see the original", slider: "Compare with a slider", difference: "Show the difference",
    tools: "Tools", brush: "Brush", eraser: "Eraser", rectangle: "Rectangle", lasso: "Lasso", polygon: "Polygon",
    select: "Select a thing", hand: "Move the picture", bucket: "Fill bucket", eyedropper: "Eyedropper",
    size: "Brush size", mask: "Mask", grow: "Grow", shrink: "Shrink", invert: "Invert", clear: "Clear",
    by: "by (px)", fill: "Fill", fillNow: "Fill (F)", cancel: "Cancel", network: "Network",
    dilate: "Widen the hole (px)", feather: "Soft edge (px)", auto: "Fill after each stroke",
    lossless: "Save without loss (PNG)", seed: "Seed", history: "History", start: "As opened",
    labels: "Labels", editLabels: "Edit labels", endLabels: "Done with labels", resetLabels: "Back to the proposal",
    saveLabels: "Save map", loadLabels: "Load map", opacity: "Opacity of the labels",
    noLabels: "This network has no labels to edit. Choose one that takes label maps (semantic).",
    noProposal: "No labelling network is installed: paint the labels yourself. The painted map guides the fill.",
    nothing: "nothing said", legend: "Paint with", strip: "Pictures", previous: "Previous", next: "Next",
    welcome: "Drop a picture here, paste one, or open a file", welcomeMore: "Brush over what should go. Nothing leaves this machine.",
    opening: "Opening {name}", opened: "{name}: {width} x {height} px", filling: "Filling", waiting: "Waiting, {count} before this",
    filled: "Filled in {seconds} s", cancelled: "Cancelled", emptyMask: "Paint over what should go first.",
    saved: "Saved {name}", copied: "Copied", pasted: "Pasted picture", rendered: "Rendered in {seconds} s",
    encoding: "Reading the labels", selecting: "Selecting",
    lost: "The server is not running. Your picture, mask and every fill are here; work goes on when it is back.",
    back: "The server is back; nothing was lost.", failed: "It did not work: {reason}",
    loading: "The network is being loaded", noNetwork: "No weights are at hand: retouch weights import FILE",
    unsaved: "There are unsaved changes.", masks: "mask", shortcuts: "Keyboard shortcuts", close: "Close",
    keyCursor: "Arrow keys move the cursor, Enter puts the tool down and lifts it.",
    stage: "Picture. Arrow keys move the cursor, Enter puts the tool down and lifts it.",
    kBrushSize: "Smaller, larger brush (also Shift + wheel)", kPan: "Move the picture: drag with Space or the middle button",
    kErase: "Take away instead: Alt or right button", kHold: "Original while held", kCursor: "Move the keyboard cursor (Shift: far)",
    kEnter: "Put the tool down, lift it; add a corner", kEscape: "Cancel; end polygon; end comparison", kClass: "Previous, next class",
    kPaste: "Paste a picture", kStrip: "Previous, next picture", kZoom: "Zoom (also wheel, pinch)", kAutosave: "Results are saved into {folder}",
  },
  de: {
    language: "Deutsch",
    open: "Öffnen", openFolder: "Mehrere öffnen", save: "Speichern", saveMask: "Maske speichern", saveMasked: "Maskiertes Bild speichern",
    loadMask: "Maske laden", copy: "Bild kopieren", undo: "Rückgängig", redo: "Wiederholen",
    zoomIn: "Vergrößern", zoomOut: "Verkleinern", fit: "Einpassen", actual: "100 %", help: "Tasten", theme: "Dunkel oder hell",
    hold: "Halten zeigt das Original", slider: "Vergleich mit Schieber", difference: "Unterschied zeigen",
    tools: "Werkzeuge", brush: "Pinsel", eraser: "Radierer", rectangle: "Rechteck", lasso: "Lasso", polygon: "Vieleck",
    select: "Ding auswählen", hand: "Bild verschieben", bucket: "Farbeimer", eyedropper: "Pipette",
    size: "Pinselgröße", mask: "Maske", grow: "Wachsen", shrink: "Schrumpfen", invert: "Umkehren", clear: "Leeren",
    by: "um (px)", fill: "Füllen", fillNow: "Füllen (F)", cancel: "Abbrechen", network: "Netz",
    dilate: "Loch erweitern (px)", feather: "Weicher Rand (px)", auto: "Nach jedem Strich füllen",
    lossless: "Verlustfrei speichern (PNG)", seed: "Startwert", history: "Verlauf", start: "Wie geöffnet",
    labels: "Klassen", editLabels: "Klassen bearbeiten", endLabels: "Klassen fertig", resetLabels: "Zurück zum Vorschlag",
    saveLabels: "Karte speichern", loadLabels: "Karte laden", opacity: "Deckkraft der Klassen",
    noLabels: "Dieses Netz hat keine Klassen. Wählen Sie eines, das Klassenkarten nimmt (semantic).",
    noProposal: "Kein Netz für Vorschläge ist installiert: Malen Sie die Klassen selbst. Die Karte lenkt die Füllung.",
    nothing: "nichts gesagt", legend: "Malen mit", strip: "Bilder", previous: "Voriges", next: "Nächstes",
    welcome: "Bild hierher ziehen, einfügen oder eine Datei öffnen", welcomeMore: "Übermalen Sie, was weg soll. Nichts verlässt diesen Rechner.",
    opening: "Öffne {name}", opened: "{name}: {width} x {height} px", filling: "Fülle", waiting: "Warte, {count} davor",
    filled: "Gefüllt in {seconds} s", cancelled: "Abgebrochen", emptyMask: "Übermalen Sie zuerst, was weg soll.",
    saved: "{name} gespeichert", copied: "Kopiert", pasted: "Eingefügtes Bild", rendered: "Gezeichnet in {seconds} s",
    encoding: "Lese die Klassen", selecting: "Wähle aus",
    lost: "Der Server läuft nicht. Bild, Maske und alle Füllungen sind hier; es geht weiter, sobald er zurück ist.",
    back: "Der Server ist zurück; nichts ging verloren.", failed: "Das ging nicht: {reason}",
    loading: "Das Netz wird geladen", noNetwork: "Keine Gewichte vorhanden: retouch weights import DATEI",
    unsaved: "Es gibt ungespeicherte Änderungen.", masks: "Maske", shortcuts: "Tastenkürzel", close: "Schließen",
    keyCursor: "Pfeiltasten bewegen den Zeiger, Eingabe setzt das Werkzeug auf und hebt es ab.",
    stage: "Bild. Pfeiltasten bewegen den Zeiger, Eingabe setzt das Werkzeug auf und hebt es ab.",
    kBrushSize: "Pinsel kleiner, größer (auch Umschalt + Rad)", kPan: "Bild verschieben: mit Leertaste oder mittlerer Taste ziehen",
    kErase: "Stattdessen wegnehmen: Alt oder rechte Taste", kHold: "Original, solange gehalten", kCursor: "Tastaturzeiger bewegen (Umschalt: weit)",
    kEnter: "Werkzeug aufsetzen, abheben; Ecke setzen", kEscape: "Abbrechen; Vieleck beenden; Vergleich beenden", kClass: "Vorige, nächste Klasse",
    kPaste: "Bild einfügen", kStrip: "Voriges, nächstes Bild", kZoom: "Zoom (auch Rad, Finger)", kAutosave: "Ergebnisse kommen nach {folder}",
  },
};

let current = STRINGS.en;

export const languages = Object.entries(STRINGS).map(([code, { language }]) => ({ code, language }));

export function setLanguage(code) {
  current = STRINGS[code] ?? STRINGS.en;
  document.documentElement.lang = STRINGS[code] ? code : "en";
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-l]")) {
    const keys = element.dataset.k ? ` (${element.dataset.k})` : "";
    element.setAttribute("aria-label", t(element.dataset.l));
    element.title = t(element.dataset.l) + keys;
  }
}

/** A text with its {places} filled. */
export function t(key, places = {}) {
  const text = current[key] ?? STRINGS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => places[name] ?? "");
}
