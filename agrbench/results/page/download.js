// The current view as a file: the rows and columns that are shown.

const UNITS = { loss: 'points', mean_loss: 'points', worst_success: 'percent', fidelity_loss: 'points', strongest_loss: 'points' };

function viewOf(group, rows) {
  const columns = shownColumns(group).flatMap((column) => ({
    loss: ['loss', 'low', 'high', 'interval'], server_ms: ['server_ms', 'server_ratio'],
    strongest: ['strongest', 'strongest_loss'], name: ['name', 'family'],
  }[column.key] ?? [column.key]));
  return rows.map((row) => Object.fromEntries(columns.map((key) => [
    UNITS[key] ? `${key}_${UNITS[key]}` : key, row[key] ?? null])));
}

// A spreadsheet would compute a text that begins like a formula, so an apostrophe goes before it.
function quoted(value) {
  if (value == null) return '';
  if (typeof value !== 'string') return String(value);
  const safe = /^\s*[=+\-@]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function asCsv(rows) {
  const names = Object.keys(rows[0] ?? {});
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((line) => line.map(quoted).join(',')).join('\n') + '\n';
}

const asJson = (group, rows) => `${JSON.stringify({ records: group.title, source: group.source,
  attack: state.attack || 'worst', rows }, null, 1)}\n`;

function download(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  el('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
