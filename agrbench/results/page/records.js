// The page's data: what was computed of each group, and the compressed records of a group, read when they are asked for.

const MODEL = JSON.parse(byId('model').textContent);
const GROUPS = new Map(MODEL.groups.map((group, place) => [group.id, { ...group, place }]));
const pair = (defense, attack) => JSON.stringify([defense, attack]);

for (const group of GROUPS.values()) {
  group.at = new Map(group.cells.map((cell) => [pair(cell.defense, cell.attack), cell]));
  group.reasons = new Map(group.missing.map((each) => [pair(each.defense, each.attack), each.reason]));
}

const current = () => GROUPS.get(state.group) ?? GROUPS.get(MODEL.start);

async function recordsOf(group) {
  group.payload ??= await unpacked(document.querySelectorAll('script.records')[group.place].textContent);
  return group.payload;
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return JSON.parse(await new Response(stream).text());
}

const under = (payload, defense, attack) => payload.records
  .filter((record) => record.cell.defense === defense && record.cell.attack === attack)
  .sort((one, other) => one.cell.seed - other.cell.seed);
