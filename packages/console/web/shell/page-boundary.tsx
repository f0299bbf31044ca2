import { Component } from 'preact';
import type { ComponentChildren, JSX } from 'preact';

import type { Place } from '../data/router.js';
import { Heading } from '../ui/heading.js';
import { AllStreamsLink, Empty } from '../ui/notices.js';

interface BoundaryProps {
  readonly place: Place;
  readonly children: ComponentChildren;
}

/** Shows what to do instead of a page that cannot be drawn, until another place is opened. */
export class PageBoundary extends Component<BoundaryProps, { error: unknown }> {
  override state: { error: unknown } = { error: null };

  static override getDerivedStateFromError(error: unknown): { error: unknown } {
    return { error };
  }

  override componentDidCatch(error: unknown): void {
    console.error(error);
  }

  override componentDidUpdate({ place }: BoundaryProps): void {
    if (place !== this.props.place && this.state.error !== null) this.setState({ error: null });
  }

  override render(): ComponentChildren {
    const { error } = this.state;
    return error === null ? this.props.children : <BrokenPage error={error} />;
  }
}

function BrokenPage({ error }: { error: unknown }): JSX.Element {
  return (
    <>
      <Heading title="This page cannot be shown" />
      <Empty title="The console has an error">
        <p role="alert">
          <code>{String(error)}</code>
        </p>
        <p>
          Load the page again: the figures may have changed. If the error comes back, report it with the text above and
          the version of the console. The other pages still work.
        </p>
        <p>
          <button type="button" class="button primary" onClick={() => location.reload()}>
            Load the page again
          </button>{' '}
          <AllStreamsLink />
        </p>
      </Empty>
    </>
  );
}
