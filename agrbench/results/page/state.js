// What is shown is in the URL's fragment, so that a view can be linked, and the browser's buttons lead back.

const DEFAULTS = {
  group: '', q: '', attack: '', family: '', form: '', stage: '', sort: '', hide: '', heat: 'loss',
  defense: '', under: '', part: '',
};
const state = { ...DEFAULTS };

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(DEFAULTS)) state[name] = given.get(name) ?? DEFAULTS[name];
}

function fragment(changes = {}) {
  const shown = Object.entries({ ...state, ...changes }).filter(([name, value]) => value !== DEFAULTS[name]);
  return `#${new URLSearchParams(shown)}`;
}

function change(changes, push = false) {
  const address = fragment(changes);
  Object.assign(state, changes);
  history[push ? 'pushState' : 'replaceState'](null, '', address);
  render();
}

const addressOf = (changes) => location.href.split('#')[0] + fragment(changes);

async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    window.prompt('Copy this:', text);
  }
  setTimeout(() => { button.textContent = label; }, 1500);
}
