import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

import { session } from '../data/client.js';
import { freshness } from '../data/freshness.js';
import { connection } from '../data/live.js';
import type { Connection } from '../data/live.js';
import { href, navigate, usePlace } from '../data/router.js';
import { useStore } from '../data/store.js';
import { chooseTheme, theme, THEMES } from '../data/theme.js';
import type { Theme } from '../data/theme.js';
import { formatDuration, now } from '../data/time.js';
import { Icon } from '../ui/icon.js';
import type { IconName } from '../ui/icon.js';

/** Milliseconds after the last key before the list is searched. */
const SEARCH_DELAY = 200;

export function TopBar(): JSX.Element {
  const { page } = usePlace();
  return (
    <header class="top">
      <div class="column">
        <a class="brand" href={href('streams')} aria-label="Redis Streams console">
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="8" />
            <path d="M8 11h9M8 16h16M8 21h5M22.5 11h.01M18.5 21h.01" />
          </svg>
          <span>Redis Streams</span>
        </a>
        <nav aria-label="Console">
          <a href={href('streams')} aria-current={page === 'health' || page === 'unknown' ? undefined : 'page'}>
            Streams
          </a>
          <a href={href('health')} aria-current={page === 'health' ? 'page' : undefined}>
            Health
          </a>
        </nav>
        <Search />
        <ConnectionState />
        <ReadOnlyMark />
        <ThemeButton />
      </div>
    </header>
  );
}

function Search(): JSX.Element {
  const { page, query } = usePlace();
  const input = useRef<HTMLInputElement>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const search = page === 'streams' ? (query.get('search') ?? '') : '';

  useEffect(() => {
    const focus = (event: KeyboardEvent): void => {
      const target = event.target as HTMLElement;
      const isTyping = target.matches('input, textarea, select') || target.isContentEditable;
      if (event.key !== '/' || isTyping || event.ctrlKey || event.metaKey || document.querySelector('dialog[open]'))
        return;
      event.preventDefault();
      input.current?.select();
    };
    document.addEventListener('keydown', focus);
    return () => document.removeEventListener('keydown', focus);
  }, []);

  useEffect(() => {
    // The viewer may be typing.
    if (input.current && input.current !== document.activeElement) input.current.value = search;
  }, [search]);

  const find = (): void => {
    clearTimeout(timer.current);
    const text = input.current?.value ?? '';
    const order = page === 'streams' ? { sort: query.get('sort'), desc: query.get('desc') } : {};
    navigate(href('streams', { search: text, ...order }), page === 'streams');
  };
  return (
    <form
      class="search"
      role="search"
      aria-label="Streams"
      onSubmit={(event) => {
        event.preventDefault();
        find();
      }}
    >
      <Icon name="search" />
      <input
        ref={input}
        type="search"
        aria-label="Search streams"
        aria-keyshortcuts="/"
        placeholder="Search streams"
        defaultValue={search}
        autocomplete="off"
        spellcheck={false}
        onInput={() => {
          clearTimeout(timer.current);
          if (page === 'streams') timer.current = setTimeout(find, SEARCH_DELAY);
        }}
        onKeyDown={(event) => {
          if (event.key === 'Escape') event.currentTarget.blur();
        }}
      />
      <kbd aria-hidden="true">/</kbd>
    </form>
  );
}

const CONNECTIONS: Readonly<Record<Connection, string>> = {
  idle: 'Not live',
  connecting: 'Connecting',
  live: 'Live',
  reconnecting: 'Reconnecting',
  refused: 'Stopped',
};

/** The age of figures that should have been renewed; null while they are fresh. */
function useLateness(): string | null {
  const current = useStore(freshness);
  useStore(now);
  if (!current) return null;
  const age = Date.now() - current.at;
  return age > current.limit ? `${formatDuration(age)} ago` : null;
}

/** Read out only when the feed is lost and when it is back, not when a page opens its own. */
function ConnectionState(): JSX.Element {
  const state = useStore(connection);
  const late = useLateness();
  const hasFailed = useRef(false);
  if (state === 'reconnecting' || state === 'refused' || late) hasFailed.current = true;
  let spoken = '';
  if (state === 'reconnecting' || state === 'refused') spoken = 'The live figures have stopped.';
  else if (late) spoken = 'The figures are late.';
  else if (state === 'live' && hasFailed.current) spoken = 'The figures are live again.';
  return (
    <span
      class={`connection ${state} ${late ? 'late' : ''}`}
      title={state === 'idle' ? 'This page does not change by itself.' : undefined}
    >
      <span class="dot" aria-hidden="true" />
      <span class="word">{late && state === 'live' ? 'Late' : CONNECTIONS[state]}</span>
      {late && <span class="updated">updated {late}</span>}
      <span class="hidden" role="status" aria-live="polite">
        {spoken}
      </span>
    </span>
  );
}

function ReadOnlyMark(): JSX.Element | null {
  const current = useStore(session);
  if (!current?.readOnly) return null;
  return (
    <span class="read-only" title="Nothing can be changed here: the console has the option readOnly.">
      <Icon name="lock" />
      <span>Read-only</span>
    </span>
  );
}

const THEME_ICONS: Readonly<Record<Theme, IconName>> = { system: 'screen', light: 'sun', dark: 'moon' };

function ThemeButton(): JSX.Element {
  const current = useStore(theme);
  const next = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length] ?? 'system';
  const label = `Theme: ${current}. Change to ${next}`;
  return (
    <button type="button" class="quiet theme" aria-label={label} title={label} onClick={() => chooseTheme(next)}>
      <Icon name={THEME_ICONS[current]} />
    </button>
  );
}
