import { ClerkProvider } from '@clerk/nextjs'
import type { Metadata } from 'next'
import type { ReactNode } from 'react'
import { Header } from './header'
import './style.css'

export const metadata: Metadata = {
  title: { default: 'Clerk and Supabase', template: '%s · Clerk and Supabase' },
  description: 'To-dos, profiles and documents behind policies that know Clerk',
}

// Clerk's components take the colours of style.css, light and dark.
// No colour is called --accent: a button of Clerk has a variable of that name, and would lose its background.
const appearance = {
  variables: {
    colorBackground: 'var(--surface)',
    colorForeground: 'var(--text)',
    colorMutedForeground: 'var(--muted)',
    colorPrimary: 'var(--brand)',
    colorPrimaryForeground: 'var(--on-brand)',
    colorNeutral: 'var(--text)',
    colorInput: 'var(--surface)',
    colorInputForeground: 'var(--text)',
    fontFamily: 'inherit',
  },
}

export default function RootLayout({ children }: { children: ReactNode }) {
  return (
    <ClerkProvider appearance={appearance}>
      <html lang="en">
        <body>
          <a className="skip" href="#main">
            Skip to the content
          </a>
          <Header />
          <main id="main">{children}</main>
        </body>
      </html>
    </ClerkProvider>
  )
}
