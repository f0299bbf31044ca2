import { render } from 'preact';

import './styles/app.css';
import { followLinks } from './data/router.js';
import { applyTheme } from './data/theme.js';
import { App } from './shell/app.js';

applyTheme();
followLinks();
// This runs in the head, before there is a body.
addEventListener('DOMContentLoaded', () => {
  const root = document.querySelector('#app');
  if (root) render(<App />, root);
});
