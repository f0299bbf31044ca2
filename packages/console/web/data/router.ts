import { PAGES } from '../../src/api.js';
import { Store, useStore } from './store.js';

export type PageName = 'streams' | (typeof PAGES)[number];

export interface Place {
  readonly page: PageName | 'unknown';
  readonly query: URLSearchParams;
}

type Query = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** The path of the console, with a slash at its end: the parent of the folder with this script. */
export const base = new URL('..', (document.currentScript as HTMLScriptElement).src);

const place = new Store(currentPlace());

function currentPlace(): Place {
  const name = location.pathname.slice(base.pathname.length);
  const page = name === '' ? 'streams' : (PAGES.find((known) => known === name) ?? 'unknown');
  return { page, query: new URLSearchParams(location.search) };
}

export function usePlace(): Place {
  return useStore(place);
}

/** The URL of a page, without the empty parts of the query. */
export function href(page: PageName, query: Query = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '' && value !== false) search.set(name, String(value));
  }
  const text = search.toString();
  return `${base.pathname}${page === 'streams' ? '' : page}${text && `?${text}`}`;
}

export function navigate(url: string, isReplacing = false): void {
  if (isReplacing) history.replaceState(null, '', url);
  else history.pushState(null, '', url);
  const before = place.value;
  place.set(currentPlace());
  if (!isReplacing && isOtherPage(before, place.value)) scrollTo(0, 0);
}

/** Whether the heading is another one, so that the focus has to move. */
function isOtherPage(before: Place, after: Place): boolean {
  const identity = ({ page, query }: Place): string =>
    JSON.stringify([page, query.get('stream'), query.get('group'), query.get('id')]);
  return identity(before) !== identity(after);
}

/** Follows links to other pages without loading this one again. */
export function followLinks(): void {
  addEventListener('popstate', () => place.set(currentPlace()));
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element).closest('a');
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (!link.pathname.startsWith(base.pathname) || link.hash) return;
    event.preventDefault();
    navigate(link.href);
  });
}
