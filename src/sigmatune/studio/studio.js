// The draggable axis of noise levels, the slider between two rows of images, arrow keys on tabs, and the refusal of large files. Gradio
// runs this once, with `element` (the component's root, whose content the server replaces), `trigger` (an event for the server) and
// `watch` (after a replacement).
const box = () => element.querySelector(".axis");
const handles = () => [...element.querySelectorAll(".level")];
const three = (x) => Number(x.toPrecision(3)).toString();
let axis = null, dragged = null, focused = -1, timer = null;

function read() {
  const root = box();
  if (!root) { axis = null; return; }
  axis = JSON.parse(root.dataset.axis);
  if (focused >= 0 && handles()[focused]) handles()[focused].focus({ preventScroll: true });
}

const place = (sigma) => (100 * (axis.high - Math.log2(sigma))) / (axis.high - axis.low);

function words(sigma) {
  if (!axis.curve.length) return "sigma " + three(sigma);
  const above = axis.curve.filter(([, level]) => level >= sigma);
  const k = above.length ? above[above.length - 1][0] : 0;
  const what = !k ? "coarser than 1 cycle per image"
    : above.length === axis.curve.length ? "finer than all" : `about ${k} cycle${k > 1 ? "s" : ""} per image`;
  return `sigma ${three(sigma)}, ${what}`;
}

function limits(i) {
  const before = axis.levels[i - 1], after = axis.levels[i + 1];
  return [after ? after * axis.gap : axis.min, before ? before / axis.gap : axis.max];
}

function move(i, wanted) {
  const [low, high] = limits(i);
  if (low > high) return;
  const sigma = Math.min(Math.max(wanted, low), high), handle = handles()[i];
  axis.levels[i] = sigma;
  handle.style.left = place(sigma) + "%";
  handle.setAttribute("aria-valuenow", sigma.toPrecision(6));
  handle.setAttribute("aria-valuetext", words(sigma));
  handle.querySelector(".tip").textContent = three(sigma);
}

function commit(levels = axis.levels) {
  clearTimeout(timer);
  timer = null;
  trigger("submit", { levels });
}

// The server draws the axis of other levels; until then, and if it refuses them, this one stays.
function add(sigma) {
  const at = axis.levels.filter((level) => level === null || level > sigma).length;
  const before = axis.levels[at - 1], after = axis.levels[at];
  if ((before && sigma * axis.gap > before) || (after && sigma < after * axis.gap)) return;
  focused = at;
  commit(axis.levels.toSpliced(at, 0, sigma));
}

function remove(i) {
  if (axis.levels.length < 2) return;
  focused = Math.min(i, axis.levels.length - 2);
  commit(axis.levels.toSpliced(i, 1));
}

const between = (i) => Math.sqrt(axis.levels[i] * (axis.levels[i + 1] || axis.min));

function under(pointer) {
  const rail = element.querySelector(".track").getBoundingClientRect();
  return 2 ** (axis.high - ((pointer.clientX - rail.left) / rail.width) * (axis.high - axis.low));
}

element.addEventListener("pointerdown", (event) => {
  const handle = event.target.closest(".level");
  if (!handle || handle.disabled || !axis || event.button) return;
  dragged = Number(handle.dataset.index);
  handle.setPointerCapture(event.pointerId);
  handle.focus({ preventScroll: true });
  handle.classList.add("moving");
  event.preventDefault();
});
element.addEventListener("pointermove", (event) => {
  if (dragged === null) return;
  move(dragged, under(event));
});
element.addEventListener("dblclick", (event) => {
  if (!axis || event.target.closest(".level") || !event.target.closest(".track")) return;
  add(Math.min(Math.max(under(event), axis.min), axis.max));
});
function release() {
  if (dragged === null) return;
  handles().forEach((handle) => handle.classList.remove("moving"));
  dragged = null;
  commit();
}
element.addEventListener("pointerup", release);
element.addEventListener("pointercancel", release);

element.addEventListener("keydown", (event) => {
  const handle = event.target.closest(".level");
  if (!handle || handle.disabled || !axis) return;
  const i = Number(handle.dataset.index), step = event.shiftKey ? 0.01 : 0.1, [low, high] = limits(i);
  const octaves = { ArrowLeft: step, ArrowUp: step, ArrowRight: -step, ArrowDown: -step, PageUp: 0.5, PageDown: -0.5 }[event.key];
  if (octaves !== undefined) move(i, axis.levels[i] * 2 ** octaves);
  else if (event.key === "Home") move(i, high);
  else if (event.key === "End") move(i, low);
  else if (!["Delete", "Insert", "+"].includes(event.key)) return;
  event.preventDefault();
  if (event.key === "Delete") return remove(i);
  if (event.key === "Insert" || event.key === "+") return add(between(i));
  clearTimeout(timer);
  timer = setTimeout(commit, 400); // one request for several presses
});
element.addEventListener("focusin", (event) => {
  const handle = event.target.closest(".level");
  focused = handle ? Number(handle.dataset.index) : -1;
});
element.addEventListener("focusout", (event) => {
  if (event.relatedTarget && !element.contains(event.relatedTarget)) focused = -1;
});

document.addEventListener("input", (event) => {
  const compared = event.target.closest ? event.target.closest(".compare") : null;
  if (compared) compared.style.setProperty("--at", event.target.value + "%");
});

// Gradio's tabs are buttons; an arrow turns to the next one, as readers of screens announce of tabs.
document.addEventListener("keydown", (event) => {
  const tab = event.target.closest ? event.target.closest("[role=tab]") : null;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!tab || !step) return;
  const tabs = [...tab.parentElement.querySelectorAll("[role=tab]")];
  const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
  next.focus();
  next.click();
  event.preventDefault();
});

// Gradio asks the server for the progress of a large upload that it then does not send, which fails; this refuses it before.
const most = (window.gradio_config && window.gradio_config.max_file_size) || Infinity;
function tooLarge(event) {
  const given = event.type === "drop" ? event.dataTransfer : event.target.type === "file" ? event.target : null;
  const field = event.target.closest && event.target.closest(".block"), files = given ? [...given.files] : [];
  if (!field || !files.length) return;
  field.querySelectorAll(".said").forEach((one) => one.remove());
  const large = files.filter((file) => file.size > most).map((file) => file.name);
  if (!large.length) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (event.type === "change") event.target.value = "";
  const said = Object.assign(document.createElement("div"), { className: "said problem", role: "alert" });
  said.textContent = `${large.join(", ")} has more than ${Math.round(most / 2 ** 20)} MiB, the most that an upload may have.`;
  field.append(said);
}
for (const kind of ["change", "drop"]) document.addEventListener(kind, tooLarge, true);

watch("value", read);
read();
