// Starts the console.
import { h, render } from 'preact';
import { App } from './app.ts';

const root = document.getElementById('app');
if (root !== null) render(h(App, null), root);
