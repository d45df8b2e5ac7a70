// Curves of one cell over the rounds: a thin line a seed, a thick one for their mean, and where the attack starts.

function curves({ runs, reference, level, first, last, attacked, what, name, width }) {
  const [left, right, top, bottom] = [48, width - 18, 22, 226];
  const x = linear(0, last, left, right);
  const y = linear(0, 100, bottom, top);
  const path = (rounds, values) => {
    let pen = 'M';
    return rounds.map((number, place) => {
      if (values[place] == null) {
        pen = 'M';
        return '';
      }
      const step = `${pen}${x(number).toFixed(1)} ${y(100 * values[place]).toFixed(1)}`;
      pen = 'L';
      return step;
    }).join('');
  };
  const line = (rounds, values, kind) => draw('path', { d: path(rounds, values), class: kind });
  const middle = averaged(runs);
  return picture(width, 270, `${name}: ${what} over rounds, ${runs.length} seeds`,
    axisY(y, [0, 20, 40, 60, 80, 100], left, what, right),
    axisX(x, ticks(0, last, width > 500 ? 10 : 5), bottom, 'round', left, right),
    attacked && [draw('line', { x1: x(first), x2: x(first), y1: top, y2: bottom, class: 'start' }),
      text(x(first) + 4, top - 6, `attack starts, round ${first}`, { class: 'soft' })],
    level != null && draw('line', { x1: left, x2: right, y1: y(100 * level), y2: y(100 * level), class: 'reference' }),
    reference && line(reference.rounds, reference.values, 'reference'),
    runs.map((run) => draw('g', {}, draw('title', {}, `seed ${run.seed}`), line(run.rounds, run.values, 'seed'))),
    line(middle.rounds, middle.values, 'mean'));
}

function averaged(runs) {
  const rounds = runs[0].rounds;
  const alike = runs.filter((run) => run.rounds.length === rounds.length);
  const values = rounds.map((_, place) => {
    const known = alike.map((run) => run.values[place]).filter((value) => value != null);
    return known.length === alike.length ? mean(known) : null;
  });
  return { rounds, values };
}

const runsOf = (records, read) => records.map((record) => (
  { seed: record.cell.seed, rounds: record.rounds, values: read(record) }));
