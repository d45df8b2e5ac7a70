// The panel of one cell: curves, settings, machine, records, and the command that computes it again.

let opened = '';

async function drawPanel(group) {
  const panel = byId('panel');
  const wanted = state.defense && state.under ? pair(state.defense, state.under) : '';
  if (!wanted) {
    opened = '';
    if (panel.open) panel.close();
    return;
  }
  const payload = await recordsOf(group);
  if (opened === group.id + wanted) return;
  opened = group.id + wanted;
  panel.replaceChildren(el('div', { class: 'panel-body' }, panelBody(group, payload, panelWidth())));
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  const part = state.part && byId(`part-${state.part}`);
  if (part) {
    part.querySelectorAll('details').forEach((each) => { each.open = true; });
    part.scrollIntoView();
  }
}

const panelWidth = () => Math.min(document.documentElement.clientWidth, 860) - 56;
const closePanel = () => change({ defense: '', under: '', part: '' }, true);

function panelBody(group, payload, width) {
  const [defense, attack] = [state.defense, state.under];
  const records = under(payload, defense, attack);
  const close = el('button', { type: 'button', class: 'close', click: closePanel, 'aria-label': 'Close' }, '×');
  const copyLink = el('button', { type: 'button', click: (event) => copy(addressOf({ part: '' }), event.currentTarget) }, 'Copy link');
  const head = [close, el('h2', { id: 'panel-title' }, el('code', {}, defense), attack === NONE ? ' without attack' : [' under ', el('code', {}, attack)]),
    el('p', { id: 'panel-group' }, group.title, ' ', copyLink)];
  if (!records.length) return [head, el('p', {}, group.reasons.get(pair(defense, attack)) ?? 'There is no record of this cell.')];
  const again = payload.again.find(([mine, theirs]) => mine === defense && theirs === attack)[2];
  return [head, summary(group, defense, attack),
    part('curves', 'Curves', drawnCurves(group, payload, records, width)),
    part('again', 'Compute it again', command(again)),
    part('seeds', 'Seed by seed', seedTable(records)),
    part('settings', 'Settings', pairs(records[0].resolved && Object.keys(records[0].resolved).length
      ? records[0].resolved : records[0].cell.settings)),
    part('machine', 'Machine', machines(records)),
    part('record', 'Raw records', records.map((record) => el('details', {}, el('summary', {}, `seed ${record.cell.seed}`),
      el('pre', { tabindex: 0, 'aria-label': `record of seed ${record.cell.seed}` }, JSON.stringify(record, null, 1)))))];
}

function part(name, title, ...content) {
  const link = el('a', { class: 'anchor', href: fragment({ part: name }), 'aria-label': `Link to ${title}` }, '#');
  return el('section', { id: `part-${name}`, 'aria-labelledby': `title-${name}` },
    el('h3', { id: `title-${name}` }, title, ' ', link), content);
}

function summary(group, defense, attack) {
  const cell = group.at.get(pair(defense, attack));
  if (!cell) return el('p', {}, 'There is no run without attack or defense to compare it with.');
  const said = [`Loss ${fixed(cell.loss)} points ${bracketed(cell.low, cell.high)}`];
  if (cell.damage != null) said.push(`= fidelity loss ${fixed(cell.fidelity)} + attack damage ${fixed(cell.damage)}`);
  const more = [`${seedsOf(cell.seeds)}${cell.interval ? `; 95% interval: ${cell.interval}` : ', no interval'}.`];
  if (cell.success != null) {
    more.push(`Success ${fixed(cell.success)} % ${bracketed(cell.success_low, cell.success_high)}; `
      + `${fixed(cell.untriggered)} % without the trigger.`);
  }
  if (cell.collapsed) more.push('† A model ends near chance accuracy.');
  if (cell.unstable) more.push('‡ Both runs are unstable: the loss is noise in part.');
  return el('p', { class: 'summary' }, el('strong', {}, said.join(' ')), ` (${more.join(' ')})`);
}

function drawnCurves(group, payload, records, width) {
  const shared = { first: group.first, last: group.last, attacked: state.under !== NONE, width };
  const plain = under(payload, BASELINE, NONE).filter((record) => record.rounds.length === records[0].rounds.length);
  const made = [el('figure', {}, curves({ ...shared, runs: runsOf(records, (record) => record.accuracy), what: 'test accuracy (%)',
    reference: plain.length ? averaged(runsOf(plain, (record) => record.accuracy)) : null, name: 'Accuracy' }),
  el('figcaption', {}, `Test accuracy: thin, each of ${seedsOf(records)}; thick, their mean; dashed, the mean without attack or defense.`))];
  if (records.some((record) => record.success)) {
    made.push(el('figure', {}, curves({ ...shared, runs: runsOf(records.filter((record) => record.success), (record) => record.success),
      what: 'attack success (%)', name: 'Success' }),
    el('figcaption', {}, 'Share of triggered test inputs, not of the target class, that are classified as the target.')));
  }
  if (records.some((record) => record.trust.malicious_share.some((value) => value != null))) {
    made.push(el('figure', {}, curves({ ...shared, runs: runsOf(records, (record) => record.trust.malicious_share),
      what: 'weight (%)', name: 'Weight of malicious clients', level: group.share }),
    el('figcaption', {}, 'The part of all absolute weight that malicious clients got, mean since the last evaluation; '
      + `dashed: their share of the clients, ${fixed(100 * group.share)} %, which plain averaging gives them.`)));
  }
  return made;
}

function command(again) {
  const button = el('button', { type: 'button', click: (event) => copy(again, event.currentTarget) }, 'Copy');
  return [el('pre', { class: 'command', tabindex: 0, 'aria-label': 'command' }, again), button];
}

function seedTable(records) {
  const head = ['seed', 'last accuracy (%)', 'server (ms a round)', 'round (ms)', 'peak memory (MiB)', 'digest'];
  const row = (record) => [record.cell.seed, fixed(100 * record.accuracy.at(-1)), fixed(1000 * record.time.server_s, 2),
    fixed(1000 * record.time.round_s, 2), fixed(record.peak_bytes / 2 ** 20, 0), (record.digest ?? '—').slice(0, 10)];
  return el('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': 'Seed by seed' }, el('table', {},
    el('thead', {}, el('tr', {}, head.map((each) => el('th', { scope: 'col', class: 'number' }, each)))),
    el('tbody', {}, records.map((record) => el('tr', {}, row(record).map((each) => el('td', { class: 'number' }, String(each))))))));
}

const pairs = (values) => el('dl', {}, Object.entries(values).map(([name, value]) => [el('dt', {}, name),
  el('dd', {}, value == null ? 'none' : typeof value === 'object' ? JSON.stringify(value) : String(value))]));

function machines(records) {
  const kinds = new Map(records.map((record) => [JSON.stringify(record.environment), record.environment]));
  return [...kinds].map(([key, environment]) => [kinds.size > 1 && el('p', {}, 'Seeds ', records
    .filter((record) => JSON.stringify(record.environment) === key).map((record) => record.cell.seed).join(', ')), pairs(environment)]);
}
