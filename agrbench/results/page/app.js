// Put the page together: choices, theme, and drawing whatever the state says.

const FORMS = [['', 'base and amplified'], ['base', 'base only'], ['amplified', 'amplified only']];
const THEMES = ['system', 'light', 'dark'];

function options(id, choices) {
  byId(id).replaceChildren(...choices.map(([value, label]) => el('option', { value }, label)));
  byId(id).value = id === 'group' ? current().id : state[id];
}

function drawChoices(group) {
  const distinct = (values) => [...new Set(values)].sort().map((each) => [each, each]);
  options('group', [...GROUPS.values()].map((each) => [each.id, `${each.source}: ${each.title}`]));
  options('family', [['', 'all families'], ...distinct(group.defenses.map((row) => row.family))]);
  options('stage', [['', 'any stage or none'], ['-', 'no stage'], ...distinct(group.defenses.flatMap((row) => row.stages))]);
  options('form', FORMS);
  options('attack', [['', 'worst of all'], ...group.attacks.map(({ name }) => [name, name === NONE ? 'no attack' : name])]);
  if (document.activeElement !== byId('q')) byId('q').value = state.q;
  const boxes = columnsOf(group).filter((column) => !column.fixed).map((column) => el('label', {},
    el('input', { type: 'checkbox', name: column.key, checked: !hidden().has(column.key), change: showColumns }), column.label));
  if (!byId('columns').contains(document.activeElement)) byId('columns').querySelector('fieldset').replaceChildren(el('legend', {}, 'Columns to show'), ...boxes);
}

function showColumns() {
  const boxes = [...byId('columns').querySelectorAll('input')];
  change({ hide: boxes.filter((box) => !box.checked).map((box) => box.name).join(',') });
}

function drawAnswer(group) {
  const { before, names, after } = group.answer;
  const listed = names.flatMap((name, place) => [place ? ', ' : ' ', el('code', {}, breakable(name))]);
  byId('verdict').replaceChildren(before, ...listed, after && ' ', el('span', {}, after));
  byId('setting').textContent = group.title;
  byId('explained').textContent = 'Loss: points of test accuracy below the run of the same seed without attack or defense, mean over '
    + `the evaluated rounds from ${group.first}, where attacks start. Worst: under the attack that costs this defense most. ${group.weaker}`;
  byId('notes').hidden = !group.notes.length;
  byId('notes').replaceChildren(el('summary', {}, 'What is missing here'), ...group.notes.map((note) => el('p', {}, note)));
}

function drawOthers(chosen) {
  const row = (group) => el('tr', { 'aria-current': group.id === chosen.id ? 'true' : null },
    el('td', {}, group.source),
    el('td', { class: 'long' }, el('a', { href: `#${new URLSearchParams({ group: group.id })}` }, group.title)),
    el('td', { class: 'number' }, String(group.defenses.length)), el('td', { class: 'number' }, String(group.attacks.length - 1)),
    el('td', { class: 'number' }, String(group.seeds.length)),
    el('td', { class: 'long' }, group.answer.before, ' ', group.answer.names.join(', '), ' ', group.answer.after));
  byId('others-body').replaceChildren(el('div', { class: 'wide', role: 'region', 'aria-label': 'All records', tabindex: 0 }, el('table', {},
    el('thead', {}, el('tr', {}, ['Collection', 'Settings', 'Defenses', 'Attacks', 'Seeds', 'Answer'].map((each) => el('th', { scope: 'col' }, each)))),
    el('tbody', {}, [...GROUPS.values()].map(row)))));
}

function render() {
  const group = current();
  const rows = viewed(group);
  const focus = document.activeElement?.dataset?.sort;
  drawChoices(group);
  drawAnswer(group);
  drawTable(group, rows);
  byId('count').textContent = `${rows.length} of ${group.defenses.length} defenses`;
  drawHeat(group, rows);
  drawPlots(group, rows);
  drawOthers(group);
  drawPanel(group);
  if (focus) document.querySelector(`[data-sort="${focus}"]`)?.focus();
}

function showTheme(name) {
  document.documentElement.dataset.theme = name;
  byId('theme').textContent = `Theme: ${name}`;
}

function listen() {
  for (const id of ['attack', 'family', 'form', 'stage']) byId(id).addEventListener('change', (event) => change({ [id]: event.target.value }));
  byId('q').addEventListener('input', (event) => change({ q: event.target.value }));
  byId('controls').addEventListener('submit', (event) => event.preventDefault());
  byId('group').addEventListener('change', (event) => change({ ...DEFAULTS, group: event.target.value }, true));
  byId('reset').addEventListener('click', () => change({ ...DEFAULTS, group: state.group }));
  byId('link').addEventListener('click', (event) => copy(addressOf({}), event.currentTarget));
  byId('csv').addEventListener('click', () => download('agrbench.csv', 'text/csv', asCsv(viewOf(current(), viewed(current())))));
  byId('json').addEventListener('click', () => download('agrbench.json', 'application/json', asJson(current(), viewOf(current(), viewed(current())))));
  byId('skip').addEventListener('click', (event) => { event.preventDefault(); byId('ranking').focus(); });
  byId('theme').addEventListener('click', () => showTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]));
  byId('panel').addEventListener('cancel', (event) => { event.preventDefault(); closePanel(); });
  byId('panel').addEventListener('click', (event) => { if (event.target === byId('panel')) closePanel(); });
  window.addEventListener('popstate', () => { readState(); render(); });
  let resized;
  window.addEventListener('resize', () => { clearTimeout(resized); resized = setTimeout(() => drawPlots(current(), viewed(current())), 150); });
}

showTheme('system');
readState();
listen();
render();
