import { Store } from './store.js';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const KEY = 'nrs-console-theme';
const systemIsDark = matchMedia('(prefers-color-scheme: dark)');

export const theme = new Store<Theme>(storedTheme());
/** The drawn one: a canvas must be painted again when it changes. */
export const drawnTheme = new Store<'light' | 'dark'>('light');

function storedTheme(): Theme {
  // Browsers refuse the storage in some modes.
  try {
    return THEMES.find((known) => known === localStorage.getItem(KEY)) ?? 'system';
  } catch {
    return 'system';
  }
}

export function chooseTheme(chosen: Theme): void {
  try {
    localStorage.setItem(KEY, chosen);
  } catch {
    // It holds until the page is closed.
  }
  theme.set(chosen);
}

export function applyTheme(): void {
  const apply = (): void => {
    document.documentElement.dataset['theme'] = theme.value;
    const isDark = theme.value === 'system' ? systemIsDark.matches : theme.value === 'dark';
    drawnTheme.set(isDark ? 'dark' : 'light');
  };
  theme.subscribe(apply);
  systemIsDark.addEventListener('change', apply);
  apply();
}
