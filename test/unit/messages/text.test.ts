// Texts are cut between characters, never inside a surrogate pair.
import { expect, it } from 'vitest';
import { splitText, truncateText } from '../../../shared/messages/text.ts';

const TEXT = 'a𝒳b𝒳𝒳c';

it('splitting a text keeps all of it and no half of a surrogate pair', () => {
  for (const unitsMax of [2, 3, 4, 5, 100]) {
    const pieces = [...splitText(TEXT, unitsMax)];
    expect(pieces.join('')).toBe(TEXT);
    expect(pieces.every((piece) => piece.isWellFormed() && piece.length <= unitsMax)).toBe(true);
  }
  expect([...splitText('', 4)]).toEqual([]);
});

it('truncating a text keeps no half of a surrogate pair', () => {
  expect([0, 1, 2, 3, 5, 6, 100].map((unitsMax) => truncateText(TEXT, unitsMax))).toEqual([
    '',
    'a',
    'a',
    'a𝒳',
    'a𝒳b',
    'a𝒳b𝒳',
    TEXT,
  ]);
});
