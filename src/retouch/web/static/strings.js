// All that the page says, in each language. A new language is one more block.

const STRINGS = {
  en: {
    language: "English",
    open: "Open", openFolder: "Open a folder", save: "Save", saveMask: "Save mask", saveMasked: "Save masked picture",
    loadMask: "Load mask", copy: "Copy picture", undo: "Undo", redo: "Redo",
    zoomIn: "Zoom in", zoomOut: "Zoom out", fit: "Fit", actual: "100 %", help: "Shortcuts", theme: "Dark or light",
    hold: "Hold to see the original", slider: "Compare with a slider", difference: "Show the difference",
    skip: "To the picture", tools: "Tools", brush: "Brush", eraser: "Eraser", rectangle: "Rectangle", lasso: "Lasso", polygon: "Polygon",
    select: "Select a thing", hand: "Move the picture", bucket: "Fill bucket", eyedropper: "Eyedropper",
    size: "Brush size", mask: "Mask", grow: "Grow", shrink: "Shrink", invert: "Invert", clear: "Clear",
    by: "by (px)", fill: "Fill", fillNow: "Fill (F)", cancel: "Cancel", network: "Network",
    variants: "Variants", variantsMore: "Fill with every network, side by side", keepNone: "Keep none",
    variantsNote: "A network always gives the same fill for the same hole; these are the fills of all networks at hand. Click on the one to keep.",
    oneVariant: "Only one network is at hand, and it always gives the same fill: there are no variants.",
    variantsDone: "All variants are here: click on one to keep it.", waits: "waits", took: "{seconds} s",
    takeAway: "Take away instead of adding",
    dilate: "Widen the hole (px)", feather: "Soft edge (px)", auto: "Fill after each stroke",
    lossless: "Save without loss (PNG)", history: "History", start: "As opened",
    labels: "Labels", editLabels: "Edit labels", endLabels: "Done with labels", resetLabels: "Back to the proposal",
    saveLabels: "Save map", loadLabels: "Load map", opacity: "Opacity of the labels",
    noLabels: "This network has no labels to edit. Choose one that takes label maps (semantic).",
    labelsReady: "Paint classes where the map is bright; each stroke is drawn at once.",
    coarse: "First fill, without labels",
    noProposal: "No labelling network is installed: paint the labels yourself. The painted map guides the fill.",
    nothing: "nothing said", legend: "Paint with", strip: "Pictures", previous: "Previous", next: "Next",
    welcome: "Drop a picture here, paste one, or open a file", welcomeMore: "Brush over what should go. Nothing leaves this machine.",
    opening: "Opening {name}", opened: "{name}: {width} x {height} px", filling: "Filling", waiting: "Waiting, {count} before this",
    filled: "Filled in {seconds} s", cancelled: "Cancelled", emptyMask: "Paint over what should go first.",
    saved: "Saved {name}", copied: "Copied", pasted: "Pasted picture", rendered: "Rendered in {seconds} s",
    encoding: "Reading the labels", selecting: "Selecting", saving: "Saving",
    selectedByColor: "Selected by color and edges, for MobileSAM is not installed. Click for more, with Alt for less, Escape for another thing.",
    selected: "Selected. Click for more of it, with Alt beside it for less, Escape for another thing.",
    busy: "Wait until this is done, or cancel it.", noPictures: "There are no pictures in this folder.",
    lost: "The server is not running. Your picture, mask and every fill are here; work goes on when it is back.",
    back: "The server is back; nothing was lost.", failed: "It did not work: {reason}",
    noNetwork: "No weights are at hand: retouch weights import FILE",
    shortcuts: "Keyboard shortcuts", close: "Close",
        stage: "Picture. Arrow keys move the cursor, Enter puts the tool down and lifts it.",
    kGrow: "Grow the mask", kShrink: "Shrink the mask", kInvert: "Invert the mask", kClear: "Clear the mask",
    kBrushSize: "Smaller, larger brush (also Shift + wheel)", kPan: "Move the picture: drag with Space or the middle button",
    kErase: "Take away instead: Alt or right button", kHold: "Original while held", kCursor: "Move the keyboard cursor (Shift: far)",
    kEnter: "Put the tool down, lift it; add a corner", kEscape: "Cancel; end polygon; end comparison", kClass: "Previous, next class",
    kPaste: "Paste a picture", kStrip: "Previous, next picture", kZoom: "Zoom (also wheel, pinch)", kAutosave: "Results are saved into {folder}",
  },
  de: {
    language: "Deutsch",
    open: "Öffnen", openFolder: "Ordner öffnen", save: "Speichern", saveMask: "Maske speichern", saveMasked: "Maskiertes Bild speichern",
    loadMask: "Maske laden", copy: "Bild kopieren", undo: "Rückgängig", redo: "Wiederholen",
    zoomIn: "Vergrößern", zoomOut: "Verkleinern", fit: "Einpassen", actual: "100 %", help: "Tasten", theme: "Dunkel oder hell",
    hold: "Halten zeigt das Original", slider: "Vergleich mit Schieber", difference: "Unterschied zeigen",
    skip: "Zum Bild", tools: "Werkzeuge", brush: "Pinsel", eraser: "Radierer", rectangle: "Rechteck", lasso: "Lasso", polygon: "Vieleck",
    select: "Ding auswählen", hand: "Bild verschieben", bucket: "Farbeimer", eyedropper: "Pipette",
    size: "Pinselgröße", mask: "Maske", grow: "Größer", shrink: "Kleiner", invert: "Umkehren", clear: "Leeren",
    by: "um (px)", fill: "Füllen", fillNow: "Füllen (F)", cancel: "Abbrechen", network: "Netz",
    variants: "Varianten", variantsMore: "Mit allen Netzen füllen, nebeneinander", keepNone: "Keine behalten",
    variantsNote: "Ein Netz füllt dasselbe Loch immer gleich; dies sind die Füllungen aller vorhandenen Netze. Klicken Sie auf die, die bleiben soll.",
    oneVariant: "Nur ein Netz ist vorhanden, und es füllt immer gleich: Es gibt keine Varianten.",
    variantsDone: "Alle Varianten sind da: Klicken Sie auf die, die bleiben soll.", waits: "wartet", took: "{seconds} s",
    takeAway: "Wegnehmen statt hinzufügen",
    dilate: "Loch erweitern (px)", feather: "Weicher Rand (px)", auto: "Nach jedem Strich füllen",
    lossless: "Verlustfrei speichern (PNG)", history: "Verlauf", start: "Wie geöffnet",
    labels: "Klassen", editLabels: "Klassen bearbeiten", endLabels: "Klassen fertig", resetLabels: "Zurück zum Vorschlag",
    saveLabels: "Karte speichern", loadLabels: "Karte laden", opacity: "Deckkraft der Klassen",
    noLabels: "Dieses Netz hat keine Klassen. Wählen Sie eines, das Klassenkarten nimmt (semantic).",
    labelsReady: "Malen Sie Klassen, wo die Karte hell ist; jeder Strich wird sofort gezeichnet.",
    coarse: "Erste Füllung, ohne Klassen",
    noProposal: "Kein Netz für Vorschläge ist installiert: Malen Sie die Klassen selbst. Die Karte lenkt die Füllung.",
    nothing: "nichts gesagt", legend: "Malen mit", strip: "Bilder", previous: "Voriges", next: "Nächstes",
    welcome: "Bild hierher ziehen, einfügen oder eine Datei öffnen", welcomeMore: "Übermalen Sie, was weg soll. Nichts verlässt diesen Rechner.",
    opening: "Öffne {name}", opened: "{name}: {width} x {height} px", filling: "Fülle", waiting: "Warte, {count} davor",
    filled: "Gefüllt in {seconds} s", cancelled: "Abgebrochen", emptyMask: "Übermalen Sie zuerst, was weg soll.",
    saved: "{name} gespeichert", copied: "Kopiert", pasted: "Eingefügtes Bild", rendered: "Gezeichnet in {seconds} s",
    encoding: "Lese die Klassen", selecting: "Wähle aus", saving: "Speichere",
    selectedByColor: "Nach Farbe und Kanten ausgewählt, denn MobileSAM fehlt. Klicken für mehr, mit Alt für weniger, Escape für ein anderes Ding.",
    selected: "Ausgewählt. Klicken für mehr davon, mit Alt daneben für weniger, Escape für ein anderes Ding.",
    busy: "Warten Sie, bis dies fertig ist, oder brechen Sie es ab.", noPictures: "In diesem Ordner sind keine Bilder.",
    lost: "Der Server läuft nicht. Bild, Maske und alle Füllungen sind hier; es geht weiter, sobald er zurück ist.",
    back: "Der Server ist zurück; nichts ging verloren.", failed: "Das ging nicht: {reason}",
    noNetwork: "Keine Gewichte vorhanden: retouch weights import DATEI",
    shortcuts: "Tastenkürzel", close: "Schließen",
        stage: "Bild. Pfeiltasten bewegen den Zeiger, Eingabe setzt das Werkzeug auf und hebt es ab.",
    kGrow: "Maske vergrößern", kShrink: "Maske verkleinern", kInvert: "Maske umkehren", kClear: "Maske leeren",
    kBrushSize: "Pinsel kleiner, größer (auch Umschalt + Rad)", kPan: "Bild verschieben: mit Leertaste oder mittlerer Taste ziehen",
    kErase: "Stattdessen wegnehmen: Alt oder rechte Taste", kHold: "Original, solange gehalten", kCursor: "Tastaturzeiger bewegen (Umschalt: weit)",
    kEnter: "Werkzeug aufsetzen, abheben; Ecke setzen", kEscape: "Abbrechen; Vieleck beenden; Vergleich beenden", kClass: "Vorige, nächste Klasse",
    kPaste: "Bild einfügen", kStrip: "Voriges, nächstes Bild", kZoom: "Zoom (auch Rad, Finger)", kAutosave: "Ergebnisse kommen nach {folder}",
  },
};

/** Class names of every label set; English ones come with the set. */
const CLASSES = {
  de: {
    background: "Hintergrund", skin: "Haut", nose: "Nase", eyeglasses: "Brille",
    "left eye": "linkes Auge", "right eye": "rechtes Auge", "left brow": "linke Braue", "right brow": "rechte Braue",
    "left ear": "linkes Ohr", "right ear": "rechtes Ohr", mouth: "Mund", "upper lip": "Oberlippe", "lower lip": "Unterlippe",
    hair: "Haar", hat: "Hut", earring: "Ohrring", necklace: "Halskette", neck: "Hals", cloth: "Kleidung",
    sky: "Himmel", water: "Wasser", grass: "Gras", mountain: "Berg", building: "Gebäude", plant: "Pflanze", animal: "Tier",
    facade: "Fassade", window: "Fenster", door: "Tür", cornice: "Gesims", sill: "Fensterbank", balcony: "Balkon",
    blind: "Fensterladen", deco: "Verzierung", molding: "Stuck", pillar: "Säule", shop: "Laden",
    pole: "Mast", road: "Straße", pavement: "Gehweg", tree: "Baum", sign: "Schild", fence: "Zaun", car: "Auto",
    pedestrian: "Fußgänger", bicyclist: "Radfahrer",
  },
};

const DIGITS = { maximumFractionDigits: 2, useGrouping: false };
let current = STRINGS.en;
let classes = {};
let numbers = new Intl.NumberFormat("en", DIGITS);

export const languages = Object.entries(STRINGS).map(([code, { language }]) => ({ code, language }));

export function setLanguage(code) {
  current = STRINGS[code] ?? STRINGS.en;
  classes = CLASSES[code] ?? {};
  document.documentElement.lang = STRINGS[code] ? code : "en";
  numbers = new Intl.NumberFormat(document.documentElement.lang, DIGITS);
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
  const shown = (value) => (typeof value === "number" ? numbers.format(value) : (value ?? ""));
  return text.replace(/\{(\w+)\}/g, (_, name) => shown(places[name]));
}

export function className(name) {
  return classes[name] ?? name;
}
