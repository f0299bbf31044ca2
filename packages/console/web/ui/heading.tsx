import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

interface Crumb {
  readonly label: string;
  readonly href: string;
}

interface HeadingProps {
  readonly title: string;
  readonly crumbs?: readonly Crumb[];
  /** Beside the title: a state, a copy button. */
  readonly aside?: ComponentChildren;
  /** Buttons, on the right. */
  readonly children?: ComponentChildren;
}

/** The page that the browser loaded begins at its top; later ones begin at their heading. */
let isFirst = true;

export function Heading({ title, crumbs = [], aside, children }: HeadingProps): JSX.Element {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Redis Streams`;
  }, [title]);
  useEffect(() => {
    // A search leads to the list while its field has the focus.
    if (!isFirst && !(document.activeElement instanceof HTMLInputElement))
      heading.current?.focus({ preventScroll: true });
    isFirst = false;
  }, []);
  return (
    <header class="heading">
      {crumbs.length > 0 && (
        <nav class="crumbs" aria-label="Breadcrumbs">
          {crumbs.map(({ label, href }, index) => (
            <span key={href}>
              <a href={href}>{label}</a>
              {index < crumbs.length - 1 && <span aria-hidden="true">/</span>}
            </span>
          ))}
        </nav>
      )}
      <div class="line">
        <h1 ref={heading} tabIndex={-1}>
          {partsOf(title).flatMap((part) => [part, <wbr />])}
        </h1>
        <div class="aside">{aside}</div>
        {children && <div class="actions">{children}</div>}
      </div>
    </header>
  );
}

/** Names of streams have no spaces; a long one wraps after a separator, not inside a word. */
function partsOf(title: string): readonly string[] {
  return title.match(/[^.:/_]*[.:/_]|[^.:/_]+/g) ?? [];
}

interface FactsProps {
  readonly facts: ReadonlyArray<readonly [label: string, value: ComponentChildren]>;
  /** They do not change, so each may be as wide as it is. */
  readonly isStill?: boolean;
}

/** Figures side by side; each has a fixed place. */
export function Facts({ facts, isStill }: FactsProps): JSX.Element {
  return (
    <dl class={isStill ? 'facts still' : 'facts'}>
      {facts.map(([label, value]) => (
        <div key={label}>
          <dt>{label}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
