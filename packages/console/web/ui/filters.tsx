import type { ComponentChildren, JSX } from 'preact';

import { Icon } from './icon.js';
import { navigate } from '../data/router.js';
import { fromLocalInput, isoTime, timeOfId, toLocalInput } from '../data/time.js';

interface FiltersProps {
  /** What the filters are about, for screen readers. */
  readonly label: string;
  /** The URL with these filters; empty ones are empty texts. */
  readonly hrefFor: (values: Readonly<Record<string, string>>) => string;
  readonly clearHref?: string | undefined;
  readonly children: ComponentChildren;
}

/** Elsewhere the fields are closed at first: they would fill a phone. */
const isWide = matchMedia('(min-width: 721px)');

/** Fields whose values become a URL when they are submitted. */
export function Filters({ label, hrefFor, clearHref, children }: FiltersProps): JSX.Element {
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const values: Record<string, string> = {};
    for (const field of form.elements) {
      if (!(field instanceof HTMLInputElement || field instanceof HTMLSelectElement) || !field.name) continue;
      const isTime = field.type === 'datetime-local' && field.value !== '';
      const second = isTime ? fromLocalInput(field.value) : null;
      // All of the second that a field names.
      const at = second !== null && field.name === 'until' ? second + 999 : second;
      values[field.name] = (at === null ? null : isoTime(at)) ?? field.value.trim();
    }
    navigate(hrefFor(values));
  };
  return (
    <details class="filter-box" open={isWide.matches || clearHref !== undefined}>
      <summary>
        <Icon name="chevron" />
        Filter
      </summary>
      <form class="filters" role="search" aria-label={label} onSubmit={submit}>
        {children}
        <div class="buttons">
          <button type="submit" class="button">
            Filter
          </button>
          {clearHref && (
            <a class="button quiet" href={clearHref}>
              Clear
            </a>
          )}
        </div>
      </form>
    </details>
  );
}

interface FieldProps {
  readonly label: string;
  readonly name: string;
  readonly value: string | null;
  readonly placeholder?: string;
}

export function TextField({ label, name, value, placeholder }: FieldProps): JSX.Element {
  return (
    <label class="field">
      <span>{label}</span>
      <input
        key={value}
        name={name}
        defaultValue={value ?? ''}
        placeholder={placeholder}
        autocomplete="off"
        spellcheck={false}
      />
    </label>
  );
}

/** In the viewer's zone; in the URL it is exact. */
export function TimeField({ label, name, value }: FieldProps): JSX.Element {
  const at = value === null || value === '' ? null : /^\d+(-\d+)?$/.test(value) ? timeOfId(value) : Date.parse(value);
  return (
    <label class="field time">
      <span>{label}</span>
      <input
        key={value}
        type="datetime-local"
        step="1"
        name={name}
        defaultValue={at === null ? '' : toLocalInput(at)}
      />
    </label>
  );
}
