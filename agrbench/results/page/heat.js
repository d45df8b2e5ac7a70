// The heat map: what every attack costs every defense. Each cell opens; arrow keys move between cells.

function drawHeat(group, rows) {
  const targeted = group.attacks.some((attack) => attack.targeted);
  const metric = targeted && state.heat === 'success' ? 'success' : 'loss';
  const attacks = group.attacks.filter((attack) => metric === 'loss' || attack.targeted);
  const values = group.cells.map((cell) => cell[metric]).filter((value) => value != null);
  const most = Math.max(10, ...values);
  const table = el('table', { class: 'heat', role: 'grid', 'aria-label': 'Attacks and defenses' },
    el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'Defense'), attacks.map((attack) => el('th',
      { scope: 'col', class: attack.name === state.attack ? 'chosen' : null, title: attack.summary },
      el('span', {}, attack.name === NONE ? 'no attack' : attack.name, attack.common ? '' : ' °'))))),
    el('tbody', {}, rows.map((row) => el('tr', {}, el('th', { scope: 'row' }, el('code', {}, breakable(row.name))),
      attacks.map((attack) => heatCell(group, row, attack, metric, most))))));
  table.addEventListener('keydown', moveInGrid);
  const first = table.querySelector('td[tabindex]');
  if (first) first.tabIndex = 0;
  byId('heat-body').replaceChildren(
    el('p', { class: 'caption' }, heatCaption(group, metric), ' ', legend(most, metric === 'loss' ? 'points' : '%')),
    targeted ? switches(metric) : '',
    el('div', { class: 'wide' }, table));
}

function heatCaption(group, metric) {
  const rare = group.attacks.some((attack) => !attack.common && attack.name !== NONE)
    ? ' ° met by few defenses, and not counted in the ranking.' : '';
  const what = metric === 'loss'
    ? 'Robustness loss in points of accuracy, mean over seeds; “no attack” is the fidelity loss.'
    : 'Success of targeted attacks in percent, mean over seeds.';
  return `${what} Open a cell for its curves and records; arrow keys move between cells.${rare}`;
}

function switches(metric) {
  const choice = (name, label) => el('button', { type: 'button', 'aria-pressed': String(metric === name),
    click: () => change({ heat: name }) }, label);
  return el('p', { class: 'actions' }, choice('loss', 'Loss'), ' ', choice('success', 'Success'));
}

function heatCell(group, row, attack, metric, most) {
  const cell = group.at.get(pair(row.name, attack.name));
  if (cell?.[metric] == null) {
    const reason = group.reasons.get(pair(row.name, attack.name)) ?? 'no record';
    return el('td', { role: 'gridcell', class: 'empty', title: reason, 'aria-label': `${row.name} under ${attack.name}: ${reason}` }, '·');
  }
  const [low, high] = metric === 'loss' ? [cell.low, cell.high] : [cell.success_low, cell.success_high];
  const what = metric === 'loss' ? 'points' : '% success';
  const rgb = colour(cell[metric] / most);
  const open = () => change({ defense: row.name, under: attack.name, part: '' }, true);
  const said = `${row.name} under ${attack.name}: ${fixed(cell[metric])} ${what} ${bracketed(low, high)}, ${seedsOf(cell.seeds)}`;
  const node = el('td', { role: 'gridcell', tabindex: -1, click: open, title: said, 'aria-label': said,
    'data-defense': row.name, 'data-attack': attack.name }, fixed(cell[metric]));
  node.style.background = css(rgb);
  node.style.color = inkOn(rgb);
  return node;
}

function moveInGrid(event) {
  const cell = event.target.closest('td');
  if (!cell) return;
  if (event.key === 'Enter' || event.key === ' ') {
    event.preventDefault();
    cell.click();
    return;
  }
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (!steps[event.key]) return;
  event.preventDefault();
  const [down, right] = steps[event.key];
  const rows = [...cell.closest('tbody').rows];
  let [row, column] = [rows.indexOf(cell.parentNode), cell.cellIndex];
  do {
    row += down;
    column += right;
  } while (rows[row]?.cells[column]?.classList.contains('empty'));
  const next = rows[row]?.cells[column];
  if (!next || next.tagName !== 'TD') return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
