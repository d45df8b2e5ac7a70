// The ranking: one row a defense, with its interval drawn.

function drawTable(group, rows) {
  const columns = shownColumns(group);
  const scale = spanOf(rows);
  byId('table').replaceChildren(
    el('thead', {}, el('tr', {}, columns.map(heading))),
    el('tbody', {}, rows.map((row) => el('tr', { class: row.name === BASELINE ? 'baseline' : null },
      columns.map((column) => entry(group, row, column, scale))))),
  );
  byId('caption').textContent = captionOf(group, rows, scale);
}

function captionOf(group, rows, scale) {
  const intervals = [...new Set(rows.map((row) => row.interval).filter(Boolean))];
  const over = state.attack ? `95% intervals: ${intervals.join('; ') || 'none'}.` : group.over;
  const ranked = rows.some((row) => row.rank != null)
    ? 'A rank is shared by the best defense without one and all defenses that paired tests (Holm-adjusted, 5%) '
      + 'cannot tell from it. '
    : `Nothing is ranked here${state.sort ? '' : ', so rows are in the order of their names'}. `;
  return `${over} Losses and intervals are drawn from ${fixed(scale.low, 0)} to ${fixed(scale.high, 0)} points. ${ranked}${BASELINE} is plain averaging, which defends nothing and is never ranked. `
    + '† a model collapsed; ‡ the loss is noise in part.';
}

function heading(column) {
  const key = state.sort.replace(/^-/, '');
  const order = key !== column.key ? null : state.sort.startsWith('-') ? 'descending' : 'ascending';
  const sign = order === 'ascending' ? ' ▲' : order === 'descending' ? ' ▼' : '';
  const sort = () => change({ sort: order === 'ascending' ? `-${column.key}` : column.key });
  return el('th', { scope: 'col', 'aria-sort': order, class: column.number ? 'number' : null },
    el('button', { type: 'button', 'data-sort': column.key, click: sort }, column.label, sign),
    column.unit && el('small', {}, column.unit));
}

function spanOf(rows) {
  const known = rows.filter((row) => row.loss != null);
  const low = Math.min(0, ...known.map((row) => row.low ?? row.loss));
  const high = Math.max(1, ...known.map((row) => row.high ?? row.loss));
  return Object.assign((value) => 4 + (112 * (value - low)) / (high - low), { low, high });
}

function whisker(row, scale) {
  const interval = row.low != null && draw('line', {
    x1: scale(row.low), x2: scale(row.high), y1: 9, y2: 9, class: 'whisker' });
  return draw('svg', { width: 120, height: 18, class: 'interval', 'aria-hidden': 'true' },
    draw('line', { x1: scale(0), x2: scale(0), y1: 1, y2: 17, class: 'zero' }),
    interval, draw('circle', { cx: scale(row.loss), cy: 9, r: 3.5, class: 'dot' }));
}

function openButton(defense, attack, ...label) {
  const open = () => change({ defense, under: attack, part: '' }, true);
  return el('button', { type: 'button', class: 'open', click: open, 'aria-haspopup': 'dialog',
    'aria-label': `${label.join(' ')}: open ${defense} under ${attack}` }, ...label);
}

function entry(group, row, column, scale) {
  const marks = (row.collapsed ? '†' : '') + (row.unstable ? '‡' : '');
  const contents = {
    rank: () => (row.rank == null ? '—' : String(row.rank)),
    name: () => [el('code', { title: row.summary }, breakable(row.name)), marks, el('small', {}, row.family)],
    loss: () => (row.loss == null ? whyNot(group, row) : [el('span', { class: 'value' }, fixed(row.loss), ' ',
      el('small', {}, bracketed(row.low, row.high))), whisker(row, scale)]),
    attack: () => row.attack && row.loss != null ? openButton(row.name, row.attack, row.attack) : '—',
    server_ms: () => [fixed(row.server_ms, 2), row.server_ratio != null
      && el('small', {}, `× ${fixed(row.server_ratio)}`)],
    breaks: () => row.breaks ?? '—',
    strongest: () => row.strongest == null ? '—'
      : [openButton(row.name, row.strongest, row.strongest), el('small', {}, fixed(row.strongest_loss) + (row.best_author ? ` by ${row.best_author}` : ''))],
    certificate: () => row.certificate ?? '—',
  };
  const content = contents[column.key] ? contents[column.key]() : fixed(row[column.key]);
  const kind = column.key === 'name' ? ['th', { scope: 'row' }] : ['td', { class: column.number ? 'number' : null }];
  return el(kind[0], { ...kind[1], 'data-column': column.key }, content);
}

function whyNot(group, row) {
  const reasons = group.missing.filter((each) => each.defense === row.name).map((each) => each.reason);
  return el('small', { class: 'why' }, reasons[0] ?? 'not all of its runs are here');
}
