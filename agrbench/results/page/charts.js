// Plots of the current view. Their numbers are in the tables; each plot says its units and has an honest zero line.

function figure(title, caption, picture) {
  return el('figure', {}, el('h3', {}, title), picture, el('figcaption', {}, caption));
}

const linear = (low, high, from, to) => (value) => from + ((to - from) * (value - low)) / (high - low || 1);
const text = (x, y, content, attributes = {}) => draw('text', { x, y, ...attributes }, content);

function axisX(scale, marks, y, label, left, right) {
  return draw('g', { class: 'axis' },
    draw('line', { x1: left, x2: right, y1: y, y2: y }),
    marks.map((mark) => [draw('line', { x1: scale(mark), x2: scale(mark), y1: y, y2: y + 4 }),
      text(scale(mark), y + 16, String(mark), { 'text-anchor': 'middle' })]),
    text((left + right) / 2, y + 33, label, { 'text-anchor': 'middle' }));
}

function axisY(scale, marks, x, label, right) {
  const middle = (scale(marks[0]) + scale(marks.at(-1))) / 2;
  return draw('g', { class: 'axis' },
    marks.map((mark) => [
      draw('line', { x1: x, x2: right, y1: scale(mark), y2: scale(mark), class: mark === 0 ? 'zero' : 'grid' }),
      text(x - 6, scale(mark) + 4, String(mark), { 'text-anchor': 'end' })]),
    text(0, 0, label, { transform: `translate(12 ${middle}) rotate(-90)`, 'text-anchor': 'middle' }));
}

const picture = (width, height, label, ...children) =>
  draw('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label }, children);

// Rows of a label above a line: the form of the dumbbells and of the strengths.
function lanes(width, items, values, label, axis, drawLane) {
  const low = Math.min(0, ...values);
  const x = linear(low, Math.max(1, ...values), 10, width - 14);
  const end = items.length * 38 + 6;
  return picture(width, end + 40, label,
    items.map((item, place) => draw('g', { transform: `translate(0 ${place * 38})` },
      draw('line', { x1: x(0), x2: x(0), y1: 18, y2: 32, class: 'zero' }), drawLane(item, x))),
    axisX(x, ticks(low, Math.max(1, ...values)), end, axis, 10, width - 14));
}

function dumbbells(group, rows, width) {
  const known = new Map(group.defenses.map((row) => [row.name, row]));
  const pairs = rows.filter((row) => row.gain != null).map((row) => [known.get(row.base), row])
    .sort(([, one], [, other]) => one.gain - other.gain);
  if (!pairs.length) return null;
  const gain = (row) => `${row.gain > 0 ? '+' : ''}${fixed(row.gain)}${row.gain_low == null ? ''
    : ` ${bracketed(row.gain_low, row.gain_high)}`}${row.gain_p == null ? '' : `, p ${row.gain_p < 0.001 ? '< 0.001' : `= ${row.gain_p.toPrecision(2)}`}`}`;
  const lane = ([base, row], x) => {
    const sure = row.gain_p != null && row.gain_p < 0.05;
    return [draw('title', {}, `${row.base} ${fixed(base.mean_loss)} → ${row.name} ${fixed(row.mean_loss)} points`),
      text(10, 14, row.name, { class: 'name' }),
      text(width - 14, 14, gain(row), { 'text-anchor': 'end', class: sure ? 'sure' : 'soft' }),
      draw('line', { x1: x(base.mean_loss), x2: x(row.mean_loss), y1: 25, y2: 25, class: 'bar' }),
      draw('circle', { cx: x(base.mean_loss), cy: 25, r: 5, class: 'base' }),
      draw('rect', { x: x(row.mean_loss) - 4.5, y: 20.5, width: 9, height: 9, class: 'amplified' })];
  };
  const values = pairs.flatMap(([base, row]) => [base.mean_loss, row.mean_loss]);
  const attacks = group.attacks.filter((attack) => attack.common && attack.name !== NONE).length;
  const axis = `mean loss over ${attacks} attacks (points of accuracy)`;
  const kinds = [...new Set(pairs.map(([, row]) => row.gain_interval).filter(Boolean))].join('; ');
  const tested = kinds ? `, with its 95% interval (${kinds}, paired) and p, adjusted over the table by Holm’s method; bold: p < 0.05.`
    : '. One seed: no intervals, and no tests.';
  return figure('From base to amplified', 'Circle: base form. Square: amplified form. At the right: amplified minus base, '
    + `above 0 where amplification loses more${tested}`,
  lanes(width, pairs, values, 'Mean loss of base and amplified forms', axis, lane));
}

function strengths(group, width) {
  const cells = group.attacks.filter((attack) => attack.name !== NONE)
    .map((attack) => group.at.get(pair(BASELINE, attack.name))).filter((cell) => cell?.loss != null)
    .sort((one, other) => other.loss - one.loss);
  if (!cells.length) return null;
  const lane = (cell, x) => [
    text(10, 14, cell.attack, { class: 'name' }),
    text(width - 14, 14, `${fixed(cell.loss)} ${bracketed(cell.low, cell.high)}`, { 'text-anchor': 'end', class: 'soft' }),
    draw('line', { x1: x(0), x2: x(cell.loss), y1: 25, y2: 25, class: 'bar' }),
    cell.low != null && draw('line', { x1: x(cell.low), x2: x(cell.high), y1: 25, y2: 25, class: 'whisker' }),
    draw('circle', { cx: x(cell.loss), cy: 25, r: 4.5, class: 'dot' })];
  const values = cells.flatMap((cell) => [cell.loss, cell.low ?? 0, cell.high ?? 0]);
  const kinds = [...new Set(cells.map((cell) => cell.interval).filter(Boolean))].join('; ');
  return figure(`How strong each attack is on ${BASELINE}`, `Loss where nobody defends. Where it is small, a small loss of `
    + `a defense says little. ${kinds ? `95% intervals: ${kinds}.` : 'One seed: no intervals.'}`,
  lanes(width, cells, values, 'Loss of plain averaging under each attack', 'loss (points of accuracy)', lane));
}

function scatter(group, rows, width) {
  const points = rows.filter((row) => row.loss != null && row.server_ms > 0 && row.fidelity_loss != null);
  if (points.length < 2) return null;
  const height = Math.max(300, Math.min(440, width * 0.7));
  const [left, right, bottom] = [52, width - 14, height - 46];
  const times = points.map((row) => Math.log10(row.server_ms));
  const x = linear(Math.min(...times) - 0.05, Math.max(...times) + 0.05, left + 8, right - 8);
  const low = Math.min(0, ...points.map((row) => row.low ?? row.loss));
  const high = Math.max(1, ...points.map((row) => row.high ?? row.loss));
  const y = linear(low, high, bottom, 14);
  const most = Math.max(1, ...points.map((row) => row.fidelity_loss));
  const marks = decades(times);
  const front = new Set(points.filter((row) => row.name !== BASELINE && !points.some((other) => other.name !== BASELINE
    && other.loss <= row.loss && other.server_ms <= row.server_ms && other !== row)));
  const shape = draw('g', {}, points.map((row) => dot(row, x(Math.log10(row.server_ms)), y, most)));
  const names = labels([...front].map((row) => [row.name, x(Math.log10(row.server_ms)), y(row.loss)]), width);
  const what = state.attack ? `loss under ${state.attack}` : 'worst loss';
  return figure('Robustness and server time', ['Lower and further left is better. Named: defenses that no other one beats in '
    + `both. Lines: 95% intervals of the loss. Colour: fidelity loss `, legend(most, 'points'), '. Triangle: plain '
    + 'averaging. Times were measured while other runs ran: compare ratios only.'],
  picture(width, height, 'Loss against server time, one point a defense',
    axisY(y, ticks(low, high), left, `${what} (points of accuracy)`, right),
    axisX((mark) => x(Math.log10(mark)), marks, bottom, 'server time (ms a round, logarithmic)', left, right), shape, names));
}

function decades(times) {
  const found = [];
  for (let power = Math.floor(Math.min(...times)); power <= Math.ceil(Math.max(...times)); power += 1) {
    found.push(...[1, 2, 5].map((factor) => Number((factor * 10 ** power).toPrecision(2))));
  }
  return found.filter((mark) => Math.log10(mark) >= Math.min(...times) - 0.05 && Math.log10(mark) <= Math.max(...times) + 0.05);
}

function dot(row, x, y, most) {
  const said = `${row.name}: loss ${fixed(row.loss)} ${bracketed(row.low, row.high)} points, ${fixed(row.server_ms, 2)} ms, fidelity loss ${fixed(row.fidelity_loss)} points`;
  const at = { fill: css(colour(row.fidelity_loss / most)), class: 'point' };
  const up = y(row.loss);
  return draw('g', {}, draw('title', {}, said),
    row.low != null && draw('line', { x1: x, x2: x, y1: y(row.low), y2: y(row.high), class: 'thin' }),
    row.name === BASELINE ? draw('path', { d: `M${x} ${up - 7}l6 11h-12z`, ...at }) : draw('circle', { cx: x, cy: up, r: 5.5, ...at }));
}

// Names beside points, the lowest first; a name that would cover another one moves up, and a line leads to its point.
function labels(points, width) {
  const placed = [];
  const covers = (one, other) => Math.abs(one.y - other.y) < 13 && one.left < other.right && other.left < one.right;
  for (const [name, x, y] of points.sort((one, other) => other[2] - one[2])) {
    const long = name.length * 7.4;
    const left = Math.max(56, Math.min(x + 10, width - 10 - long));
    const box = { name, at: [x, y], left, right: left + long, y: y - 9 };
    while (placed.some((other) => covers(box, other))) box.y -= 3;
    placed.push(box);
  }
  return draw('g', {}, placed.map((box) => [
    box.at[1] - box.y > 14 && draw('line', { x1: box.at[0], y1: box.at[1] - 6, x2: box.left + 4, y2: box.y + 3, class: 'thin' }),
    text(box.left, box.y, box.name, { class: 'name' })]));
}

function drawPlots(group, rows) {
  const host = byId('plots-body');
  const whole = host.clientWidth || 320;
  const width = whole > 900 ? Math.floor((whole - 32) / 2) : whole;
  const left = [scatter(group, rows, width), strengths(group, width)].filter(Boolean);
  const made = [left.length ? el('div', {}, left) : null, dumbbells(group, rows, width)].filter(Boolean);
  host.replaceChildren(...(made.length ? made : [el('p', {}, 'These records have nothing to plot.')]));
}
