// Stands in the place of the theme's file of this name: 1.5 MB that replace every <i class="fa ...">
// by a drawing, and with it the buttons that widgets still hold on to: Play would stop working, and
// every widget linked to it. The icons come from a style sheet alone.
