// Elements and numbers. Text becomes text nodes and attributes only: nothing in a record is ever read as markup.

const SVG = 'http://www.w3.org/2000/svg';

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

const el = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

// A spec may be cut into lines after its signs, and nowhere else.
const breakable = (spec) => spec.split(/(?<=[+_(,])/).flatMap((piece, place) => (place ? [el('wbr'), piece] : [piece]));

function fixed(value, digits = 1) {
  if (value == null) return '—';
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text;
}

const bracketed = (low, high) => (low == null ? '' : `[${fixed(low)}, ${fixed(high)}]`);
const seedsOf = (seeds) => (seeds && seeds.length === 1 ? '1 seed' : `${seeds ? seeds.length : 0} seeds`);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// One ramp for all shares of harm, from light to dark, so that it reads without colour, too.
const RAMP = ['#fbf3e4', '#f6cf8f', '#ea9150', '#c24a3a', '#7a1740', '#3d0f3f'].map((hex) =>
  [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16)));

function colour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[low].map((value, part) => Math.round(value + (at - low) * (RAMP[low + 1][part] - value)));
}

const css = (rgb) => `rgb(${rgb.join(' ')})`;

function inkOn(rgb) {
  const [r, g, b] = rgb.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? '#000' : '#fff';
}

function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

function legend(most, unit) {
  const stops = Array.from({ length: 11 }, (_, place) => css(colour(place / 10))).join(', ');
  const bar = el('span', { class: 'ramp', 'aria-hidden': 'true' });
  bar.style.background = `linear-gradient(90deg, ${stops})`;
  return el('span', { class: 'legend' }, '0 or less ', bar, ` ${fixed(most)} ${unit}`);
}
