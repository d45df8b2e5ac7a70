// The rows of the current view: defenses that pass the filters, in the chosen order, under one attack or under the worst.

const BASELINE = 'fedavg';
const NONE = 'none';

const COLUMNS = [
  { key: 'rank', label: 'Rank', number: true },
  { key: 'name', label: 'Defense', fixed: true },
  { key: 'loss', label: 'Worst loss', unit: 'points', number: true },
  { key: 'attack', label: 'Worst attack' },
  { key: 'mean_loss', label: 'Mean loss', unit: 'points', number: true },
  { key: 'worst_success', label: 'Worst success', unit: '%', number: true },
  { key: 'fidelity_loss', label: 'Fidelity loss', unit: 'points', number: true },
  { key: 'server_ms', label: 'Server time', unit: `ms a round, × ${BASELINE}`, number: true },
  { key: 'breaks', label: 'Breaks at', unit: 'malicious/clients', number: true },
  { key: 'strongest', label: 'Best known attack', unit: 'loss in points' },
  { key: 'certificate', label: 'Certificate', unit: 'properties' },
];

function rowOf(group, defense) {
  const cell = state.attack ? group.at.get(pair(defense.name, state.attack)) : null;
  const best = group.at.get(pair(defense.name, defense.best_attack));
  const standing = state.attack
    ? { rank: cell?.rank, loss: cell?.loss, low: cell?.low, high: cell?.high, attack: state.attack, interval: cell?.interval }
    : {
      rank: defense.rank, loss: defense.worst_loss, low: defense.worst_low, high: defense.worst_high,
      attack: defense.worst_attack, interval: defense.interval,
    };
  return { ...defense, ...standing, strongest: defense.best_attack, strongest_loss: best?.loss };
}

function passes(row) {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => `${row.name} ${row.family} ${row.summary}`.toLowerCase().includes(word))
    && (!state.family || row.family === state.family)
    && (!state.form || (state.form === 'amplified') === row.amplified)
    && (!state.stage || (state.stage === '-' ? !row.stages.length : row.stages.includes(state.stage)));
}

function sortKey(row, key) {
  if (key === 'breaks') {
    const [count, clients] = (row.breaks ?? '').replace('> ', '').split('/').map(Number);
    return clients ? count / clients + (row.breaks.startsWith('>') ? 1e-6 : 0) : null;
  }
  return key === 'strongest' ? row.strongest_loss : row[key];
}

function compared(one, other, key, sign) {
  const [mine, theirs] = [sortKey(one, key), sortKey(other, key)];
  if (mine == null || theirs == null) return (mine == null) - (theirs == null);
  const way = typeof mine === 'string' ? mine.localeCompare(theirs, 'en', { numeric: true }) : mine - theirs;
  return sign * way;
}

// Without a chosen order: by rank and then by loss; where nothing is ranked, in the order of names; the baseline last.
function inOrder(rows) {
  const key = state.sort.replace(/^-/, '');
  if (COLUMNS.some((column) => column.key === key)) {
    return rows.sort((one, other) => compared(one, other, key, state.sort.startsWith('-') ? -1 : 1));
  }
  const ranked = rows.some((row) => row.rank != null);
  return rows.sort((one, other) => (one.name === BASELINE) - (other.name === BASELINE)
    || (ranked ? compared(one, other, 'rank', 1) || compared(one, other, 'loss', 1) : 0));
}

const viewed = (group) => inOrder(group.defenses.map((defense) => rowOf(group, defense)).filter(passes));

function columnsOf(group) {
  const label = state.attack === NONE ? 'Loss without attack' : 'Loss under this attack';
  const renamed = { loss: label, attack: 'Attack' };
  return COLUMNS
    .filter((column) => column.key === 'loss' || column.key === 'attack' || column.key === 'strongest'
      ? group.cells.length : group.defenses.some((row) => (row[column.key] ?? null) !== null) || column.key === 'rank')
    .map((column) => (state.attack && renamed[column.key] ? { ...column, label: renamed[column.key] } : column));
}

const hidden = () => new Set(state.hide.split(',').filter(Boolean));
const shownColumns = (group) => columnsOf(group).filter((column) => column.fixed || !hidden().has(column.key));
